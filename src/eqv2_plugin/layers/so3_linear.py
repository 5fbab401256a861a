"""Degree-wise linear layer (section 3.5): mixes channels, never orders or degrees."""

from __future__ import annotations

import torch
from torch import nn

from eqv2_plugin.kernels.linear import linear


class SO3Linear(nn.Module):
    """One weight matrix per degree, a bias for degree 0 only.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        lmax: maximum degree.

    Shape:
        [N, (lmax+1)^2, C_in] -> [N, (lmax+1)^2, C_out].
    """

    def __init__(self, in_channels: int, out_channels: int, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        self.weight = nn.Parameter(torch.empty(lmax + 1, out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        bound = in_channels**-0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        blocks = features.split([2 * l + 1 for l in range(self.lmax + 1)], dim=1)
        return torch.cat([self.degree(block, l) for l, block in enumerate(blocks)], dim=1)

    def degree(self, block: torch.Tensor, degree: int) -> torch.Tensor:
        """The layer for the rows of one degree, [N, 2l+1, C_in]."""
        bias = self.bias if degree == 0 else None
        return linear(block, self.weight[degree], bias)
