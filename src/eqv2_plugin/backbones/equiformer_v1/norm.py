"""Layer normalisation by degree (Equiformer, section 4.1)."""

from __future__ import annotations

import torch
from torch import nn

from eqv2_plugin.backbones.equiformer_v1.irreps import Channels, join_degrees, split_degrees

_EPSILON = 1e-5


class DegreeNorm(nn.Module):
    """Divides every degree by its root mean square over orders and channels.

    Scalars are centred before, and get a bias.

    Args:
        channels: C_l.
        num_degrees: how many of them the features have; by default all. The weights of the others
            stay in the state dict.

    Shape:
        [N, width of these degrees], twice.
    """

    weight_decay = False

    def __init__(self, channels: Channels, num_degrees: int | None = None) -> None:
        super().__init__()
        self.channels = channels[:num_degrees]
        self.weight = nn.Parameter(torch.ones(sum(channels)))
        self.bias = nn.Parameter(torch.zeros(channels[0]))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        with torch.autocast(features.device.type, enabled=False):
            blocks = split_degrees(features.to(self.weight.dtype), self.channels)
            weights = self.weight[: sum(self.channels)].split(self.channels)
            blocks[0] = blocks[0] - blocks[0].mean(dim=2, keepdim=True)
            scaled = [
                block * (torch.rsqrt(block.square().mean((1, 2), True) + _EPSILON) * weight)
                for block, weight in zip(blocks, weights, strict=True)
            ]
            scaled[0] = scaled[0] + self.bias
            return join_degrees(scaled)
