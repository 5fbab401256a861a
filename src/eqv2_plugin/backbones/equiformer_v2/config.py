"""The options of EquiformerV2: typed, validated, with messages that say what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eqv2_plugin.backbones.options import BackboneOptions
from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.geometry.sphere_grid import grid_shape
from eqv2_plugin.layers.activations import ActivationType
from eqv2_plugin.layers.norms import NormType
from eqv2_plugin.layers.radial import AtomPairs


@dataclass(frozen=True)
class EquiformerV2Config(BackboneOptions):
    """Hyper-parameters of the backbone; the defaults are the base model of Table 7.

    Attributes:
        lmax, mmax: maximum degree L_max and order M_max.
        grid_resolution: R of the S2 grids; None for e3nn's smallest.
        num_layers: Transformer blocks.
        sphere_channels: d_embed.
        attn_hidden_channels, num_heads, attn_alpha_channels, attn_value_channels:
            d_attn_hidden, h, d_attn_alpha, d_attn_value.
        ffn_hidden_channels: d_ffn.
        edge_channels: d_edge.
        distance_basis, num_distance_basis: kind and number of radial basis functions.
        atom_edge_embedding: atom-pair scalars of the radial functions, per block (as in
            the paper), shared by all blocks, or none.
        use_m_share_rad: one radial weight per degree instead of per (degree, order).
        use_attn_renorm: attention re-normalization.
        activation: gate, S2 or separable S2.
        use_grid_mlp: an MLP as the function F of the feed-forward network's S2 activation.
        norm_type: layer_norm (LN), layer_norm_sh (SLN) or rms_norm_sh.
        alpha_drop, drop_path_rate: dropout of attention weights, stochastic depth.
        avg_degree: neighbours per atom of the training set, by which the edge-degree embedding
            is divided.
        activation_checkpointing: recompute attention and feed-forward in the backward pass.
        edge_chunk_size: edges attended to at a time; None lets the device decide.
    """

    NAME = "EquiformerV2"
    MAY_BE_ZERO = frozenset({"mmax", "alpha_drop", "drop_path_rate", "num_layers"})
    CHANGEABLE = BackboneOptions.CHANGEABLE | {
        "alpha_drop", "drop_path_rate", "activation_checkpointing", "edge_chunk_size"
    }  # fmt: skip

    lmax: int = 6
    mmax: int = 2
    grid_resolution: int | None = 18
    num_layers: int = 12
    sphere_channels: int = 128
    attn_hidden_channels: int = 64
    num_heads: int = 8
    attn_alpha_channels: int = 64
    attn_value_channels: int = 16
    ffn_hidden_channels: int = 128
    edge_channels: int = 128
    distance_basis: Literal["gaussian", "learnable_gaussian"] = "gaussian"
    num_distance_basis: int = 600
    atom_edge_embedding: AtomPairs = "per_block"
    use_m_share_rad: bool = False
    use_attn_renorm: bool = True
    activation: ActivationType = "sep_s2"
    use_grid_mlp: bool = True
    norm_type: NormType = "layer_norm_sh"
    alpha_drop: float = 0.1
    drop_path_rate: float = 0.05
    avg_degree: float = 23.395238876342773
    activation_checkpointing: bool = False
    edge_chunk_size: int | None = None

    def __post_init__(self) -> None:
        EdgeLayout(self.lmax, self.mmax)
        if self.lmax < 1:
            raise ValueError("lmax must be at least 1: forces are vectors of degree 1")
        if self.activation != "gate":
            grid_shape(self.lmax, self.mmax, self.grid_resolution)
        elif self.use_grid_mlp:
            raise ValueError(
                "activation='gate' has no sphere grid for use_grid_mlp=true; set use_grid_mlp=false"
            )
        if self.num_distance_basis < 2:
            raise ValueError("num_distance_basis must be at least 2")
        for name in ("alpha_drop", "drop_path_rate"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        super().__post_init__()


# Its name in earlier versions.
BackboneConfig = EquiformerV2Config
