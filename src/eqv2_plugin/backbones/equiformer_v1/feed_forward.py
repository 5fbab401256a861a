"""Feed-forward network (Equiformer, section 4.3)."""

from __future__ import annotations

import torch
from torch import nn

from eqv2_plugin.backbones.equiformer_v1.activations import num_gates, scaled_sigmoid, scaled_silu
from eqv2_plugin.backbones.equiformer_v1.irreps import Channels, join_degrees, split_degrees
from eqv2_plugin.backbones.equiformer_v1.linear import DegreeLinear


class FeedForward(nn.Module):
    """Two linear layers with a gate between them.

    Args:
        in_channels, hidden_channels, out_channels: C_l. Degrees that the output lacks are not
            computed, and not asked of the input.

    Shape:
        [N, width] -> [N, width of out_channels].
    """

    def __init__(
        self, in_channels: Channels, hidden_channels: Channels, out_channels: Channels
    ) -> None:
        super().__init__()
        self.degrees = range(len(out_channels))
        self.hidden_channels = hidden_channels
        with_gates = (hidden_channels[0] + num_gates(hidden_channels), *hidden_channels[1:])
        self.with_gates = with_gates
        self.linear_1 = DegreeLinear(in_channels, with_gates, degrees=self.degrees)
        self.linear_2 = DegreeLinear(hidden_channels, out_channels, degrees=self.degrees)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        scalars, *higher = split_degrees(self.linear_1(features), self.with_gates, self.degrees)
        values, *gates = scalars.split(self.hidden_channels, dim=2)
        gated = [scaled_silu(values)]
        for block, gate in zip(higher, gates, strict=False):
            gated.append(block * scaled_sigmoid(gate))
        return self.linear_2(join_degrees(gated))


class ScalarNetwork(nn.Module):
    """From node features to one invariant per atom; reads scalars only.

    Shape: [N, width] -> [N, 1].
    """

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.linear_1 = DegreeLinear(channels[:1], channels[:1])
        self.linear_2 = DegreeLinear(channels[:1], (1,))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        scalars = features[:, : self.linear_1.in_channels[0]]
        return self.linear_2(scaled_silu(self.linear_1(scalars)))
