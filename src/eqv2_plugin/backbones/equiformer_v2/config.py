"""The backbone's configuration: typed, validated, with messages that say what to do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from eqv2_plugin.common.options import make_options
from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.geometry.sphere_grid import grid_shape
from eqv2_plugin.layers.activations import ActivationType
from eqv2_plugin.layers.norms import NormType


@dataclass(frozen=True)
class BackboneConfig:
    """Hyper-parameters of the backbone; the defaults are the base model of Table 7.

    Attributes:
        cutoff: Å.
        max_neighbors: neighbours kept per atom, the nearest ones.
        enforce_max_neighbors_strictly: drop further neighbours even if as near as the last.
        max_num_elements: atomic numbers below this are known.
        otf_graph: build the graph here; otherwise the input brings ``edge_index``.
        radius_pbc_version: fairchem's graph builder, 1, 2 or 3.
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
        force_encoding: embed the forces of corrupted atoms (DeNS).
        sigma_encoding: embed the noise's standard deviation, too (DeNS with a schedule).
        avg_num_nodes, avg_degree: averages of the training set that energy and
            edge-degree embedding are divided by.
        direct_forces: forces from a head; otherwise from the energy's gradient.
        regress_forces, regress_stress: gradients that the conservative head computes.
        activation_checkpointing: recompute attention and feed-forward in the backward pass.
        edge_chunk_size: edges attended to at a time; None lets the device decide.
    """

    cutoff: float = 12.0
    max_neighbors: int = 20
    enforce_max_neighbors_strictly: bool = False
    max_num_elements: int = 90
    otf_graph: bool = True
    radius_pbc_version: int = 2
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
    atom_edge_embedding: Literal["per_block", "shared", "none"] = "per_block"
    use_m_share_rad: bool = False
    use_attn_renorm: bool = True
    activation: ActivationType = "sep_s2"
    use_grid_mlp: bool = True
    norm_type: NormType = "layer_norm_sh"
    alpha_drop: float = 0.1
    drop_path_rate: float = 0.05
    force_encoding: bool = False
    sigma_encoding: bool = False
    avg_num_nodes: float = 77.81317
    avg_degree: float = 23.395238876342773
    direct_forces: bool = True
    regress_forces: bool = True
    regress_stress: bool = False
    activation_checkpointing: bool = False
    edge_chunk_size: int | None = None

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> BackboneConfig:
        """Build from the keywords of a config file.

        Raises:
            ValueError: a key that does not exist, or a value of the wrong type or range.
        """
        return make_options(cls, options, "the EquiformerV2 backbone")

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
        if self.sigma_encoding and not self.force_encoding:
            raise ValueError("sigma_encoding=true needs force_encoding=true")
        if self.radius_pbc_version not in (1, 2, 3):
            raise ValueError(f"radius_pbc_version must be 1, 2 or 3, got {self.radius_pbc_version}")
        if self.num_distance_basis < 2:
            raise ValueError("num_distance_basis must be at least 2")
        for name in ("alpha_drop", "drop_path_rate"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            may_be_zero = ("mmax", "alpha_drop", "drop_path_rate", "num_layers")
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if is_number and field.name not in may_be_zero and value <= 0:
                raise ValueError(f"{field.name} must be positive, got {value}")

    @property
    def conservative(self) -> bool:
        """Whether forces or stress are gradients of the energy."""
        return not self.direct_forces and (self.regress_forces or self.regress_stress)
