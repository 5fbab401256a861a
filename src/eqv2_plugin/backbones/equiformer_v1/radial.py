"""Radial function of Equiformer (section 4.3)."""

from __future__ import annotations

import torch
from torch import nn

from eqv2_plugin.kernels.linear import linear
from eqv2_plugin.layers.radial import RadialFunction


class OffsetRadialFunction(RadialFunction):
    """Without atom-pair scalars; its last layer has an offset, which decays, in place of a bias."""

    def __init__(self, num_basis: int, channels: int, out_features: int) -> None:
        super().__init__(num_basis, channels, out_features, atom_pairs=False)
        self.output.register_parameter("bias", None)
        bound = channels**-0.5
        self.offset = nn.Parameter(torch.empty(out_features).uniform_(-bound, bound))

    def first(self, basis: torch.Tensor, count: int | None = None) -> torch.Tensor:
        """The first outputs of [E, num_basis], by default all: [E, count]."""
        hidden = self.hidden(basis, (basis, basis), None)
        return linear(hidden, self.output.weight[:count], self.offset[:count])
