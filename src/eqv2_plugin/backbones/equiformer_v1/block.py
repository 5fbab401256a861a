"""Transformer block (Equiformer, Figure 1)."""

from __future__ import annotations

import torch
from torch import nn

from eqv2_plugin.backbones.equiformer_v1.attention import GraphAttention
from eqv2_plugin.backbones.equiformer_v1.config import EquiformerV1Config
from eqv2_plugin.backbones.equiformer_v1.edges import Edges
from eqv2_plugin.backbones.equiformer_v1.feed_forward import FeedForward
from eqv2_plugin.backbones.equiformer_v1.irreps import Channels, width
from eqv2_plugin.backbones.equiformer_v1.linear import DegreeLinear
from eqv2_plugin.backbones.equiformer_v1.norm import DegreeNorm
from eqv2_plugin.layers.stochastic_depth import StochasticDepth


def make_attention(
    config: EquiformerV1Config,
    in_channels: Channels,
    out_channels: Channels,
    alpha_drop: float,
    computed: range | None = None,
) -> GraphAttention:
    """Attention of the configured size, see `GraphAttention`."""
    return GraphAttention(
        in_channels,
        config.node_channels,
        config.head_channels,
        config.num_heads,
        out_channels,
        num_basis=config.num_distance_basis,
        edge_channels=config.edge_channels,
        alpha_drop=alpha_drop,
        computed=computed,
    )


class TransformerBlock(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual connection.

    Args:
        config: of the backbone.
        is_last: the output has ``feature_channels``; where those are scalars alone, nothing else
            is computed after the messages.
    """

    def __init__(self, config: EquiformerV1Config, is_last: bool) -> None:
        super().__init__()
        channels = config.node_channels
        out_channels = config.feature_channels if is_last else channels
        degrees = range(len(out_channels))
        self.width = width(channels[: len(out_channels)])
        self.norm_1 = DegreeNorm(channels)
        self.attention = make_attention(config, channels, channels, config.alpha_drop, degrees)
        self.norm_2 = DegreeNorm(channels, len(out_channels))
        self.feed_forward = FeedForward(channels, config.ffn_channels, out_channels)
        self.shortcut = DegreeLinear(channels, out_channels, degrees=degrees) if is_last else None
        self.stochastic_depth = StochasticDepth(config.drop_path_rate)

    def forward(
        self,
        nodes: torch.Tensor,
        edges: Edges,
        structure_of_atom: torch.Tensor,
        num_structures: int,
    ) -> torch.Tensor:
        branch = self.attention(self.norm_1(nodes), edges)
        nodes = nodes[:, : self.width]
        nodes = nodes + self.stochastic_depth(branch, structure_of_atom, num_structures)
        branch = self.feed_forward(self.norm_2(nodes))
        nodes = nodes if self.shortcut is None else self.shortcut(nodes)
        return nodes + self.stochastic_depth(branch, structure_of_atom, num_structures)
