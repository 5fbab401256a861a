"""Transformer block and stochastic depth (Figure 1a)."""

from __future__ import annotations

import torch
from torch import nn

from eqv2_plugin.backbones.equiformer_v2.config import BackboneConfig
from eqv2_plugin.layers.attention import EquivariantGraphAttention
from eqv2_plugin.layers.edges import EdgeBatch
from eqv2_plugin.layers.feed_forward import FeedForward
from eqv2_plugin.layers.norms import make_norm


class StochasticDepth(nn.Module):
    """Drops a residual branch for whole structures, scaling up the others (section C).

    Args:
        rate: probability of dropping.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(
        self, branch: torch.Tensor, structure_of_atom: torch.Tensor, num_structures: int
    ) -> torch.Tensor:
        if self.rate == 0.0 or not self.training:
            return branch
        keep = 1.0 - self.rate
        kept = torch.rand(num_structures, 1, 1, device=branch.device) < keep
        return branch * (kept.to(branch.dtype) / keep)[structure_of_atom]


class TransformerBlock(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual connection."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        channels = config.sphere_channels
        self.norm_1 = make_norm(config.norm_type, config.lmax, channels)
        self.attention = EquivariantGraphAttention(config, channels, config.alpha_drop)
        self.norm_2 = make_norm(config.norm_type, config.lmax, channels)
        self.feed_forward = FeedForward(config, channels)
        self.stochastic_depth = StochasticDepth(config.drop_path_rate)

    def forward(
        self,
        nodes: torch.Tensor,
        edges: EdgeBatch,
        structure_of_atom: torch.Tensor,
        num_structures: int,
    ) -> torch.Tensor:
        branch = self.attention(self.norm_1(nodes), edges)
        nodes = nodes + self.stochastic_depth(branch, structure_of_atom, num_structures)
        branch = self.feed_forward(self.norm_2(nodes))
        return nodes + self.stochastic_depth(branch, structure_of_atom, num_structures)
