"""Transformer block (Figure 1a)."""

from __future__ import annotations

import torch
from torch import nn

from eqv2_plugin.backbones.equiformer_v2.config import EquiformerV2Config
from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.layers.attention import EquivariantGraphAttention
from eqv2_plugin.layers.edges import EdgeBatch
from eqv2_plugin.layers.feed_forward import FeedForward
from eqv2_plugin.layers.norms import make_norm
from eqv2_plugin.layers.radial import RadialOptions
from eqv2_plugin.layers.stochastic_depth import StochasticDepth


def radial_options(config: EquiformerV2Config) -> RadialOptions:
    """Of all radial functions."""
    return RadialOptions(
        config.num_distance_basis,
        config.edge_channels,
        config.atom_edge_embedding,
        config.max_num_elements,
    )


def make_attention(
    config: EquiformerV2Config, out_channels: int, alpha_drop: float, out_degree: int | None = None
) -> EquivariantGraphAttention:
    """Attention of the configured size, see `EquivariantGraphAttention`."""
    return EquivariantGraphAttention(
        EdgeLayout(config.lmax, config.mmax),
        config.sphere_channels,
        out_channels,
        num_heads=config.num_heads,
        hidden_channels=config.attn_hidden_channels,
        alpha_channels=config.attn_alpha_channels,
        value_channels=config.attn_value_channels,
        radial=radial_options(config),
        share_radial=config.use_m_share_rad,
        activation=config.activation,
        grid_resolution=config.grid_resolution,
        renormalise=config.use_attn_renorm,
        alpha_drop=alpha_drop,
        out_degree=out_degree,
    )


def make_feed_forward(
    config: EquiformerV2Config, out_channels: int, scalars_only: bool = False
) -> FeedForward:
    """A feed-forward network of the configured size, see `FeedForward`."""
    return FeedForward(
        config.lmax,
        config.sphere_channels,
        config.ffn_hidden_channels,
        out_channels,
        activation=config.activation,
        grid_mlp=config.use_grid_mlp,
        grid_resolution=config.grid_resolution,
        recompute=config.activation_checkpointing,
        scalars_only=scalars_only,
    )


class TransformerBlock(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual connection."""

    def __init__(self, config: EquiformerV2Config) -> None:
        super().__init__()
        channels = config.sphere_channels
        self.norm_1 = make_norm(config.norm_type, config.lmax, channels)
        self.attention = make_attention(config, channels, config.alpha_drop)
        self.norm_2 = make_norm(config.norm_type, config.lmax, channels)
        self.feed_forward = make_feed_forward(config, channels)
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
