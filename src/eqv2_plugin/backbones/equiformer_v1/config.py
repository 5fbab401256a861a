"""The options of Equiformer: typed, validated, with messages that say what to do."""

from __future__ import annotations

from dataclasses import dataclass

from eqv2_plugin.backbones.equiformer_v1.bases import BasisType
from eqv2_plugin.backbones.equiformer_v1.irreps import Channels, parse_channels
from eqv2_plugin.backbones.options import BackboneOptions


@dataclass(frozen=True)
class EquiformerV1Config(BackboneOptions):
    """Hyper-parameters of the backbone; the defaults are the MD17 model with L_max = 2.

    Irreps are e3nn's, "128x0e+64x1e+32x2e" for 128 scalars, 64 vectors and 32 tensors of degree 2.

    Attributes:
        irreps_node: d_embed; its highest degree is L_max.
        irreps_feature: d_feature, of the last block's output: scalars only, or all degrees, which
            heads for vectors need.
        irreps_head, num_heads: of one attention head, and how many.
        irreps_ffn: d_ffn, between the layers of the feed-forward network.
        num_layers: Transformer blocks.
        edge_channels: hidden channels of the radial functions.
        distance_basis, num_distance_basis: kind and number of radial basis functions.
        elements: atomic numbers that are embedded, in the order of the weights, where these are not
            all below ``max_num_elements``.
        tag_embedding: embed the tags of atoms (OC20), too.
        alpha_drop, drop_path_rate: dropout of attention weights, stochastic depth.
        avg_degree: neighbours per atom of the training set.
    """

    NAME = "Equiformer"
    MAY_BE_ZERO = frozenset({"alpha_drop", "drop_path_rate"})
    CHANGEABLE = BackboneOptions.CHANGEABLE | {"alpha_drop", "drop_path_rate"}

    cutoff: float = 5.0
    max_neighbors: int = 1000
    max_num_elements: int = 64
    avg_num_nodes: float = 18.03065905448718
    direct_forces: bool = False
    irreps_node: str = "128x0e+64x1e+32x2e"
    irreps_feature: str = "512x0e"
    irreps_head: str = "32x0e+16x1e+8x2e"
    num_heads: int = 4
    irreps_ffn: str = "384x0e+192x1e+96x2e"
    num_layers: int = 6
    edge_channels: int = 64
    distance_basis: BasisType = "exp_norm"
    num_distance_basis: int = 32
    elements: tuple[int, ...] | None = None
    tag_embedding: bool = False
    alpha_drop: float = 0.0
    drop_path_rate: float = 0.0
    avg_degree: float = 15.57930850982666

    def __post_init__(self) -> None:
        degrees = len(self.node_channels)
        if degrees < 2:
            raise ValueError(f"irreps_node={self.irreps_node!r} needs degree 1 at least")
        for name in ("irreps_head", "irreps_ffn"):
            if len(self._channels(name)) != degrees:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} must have the degrees of "
                    f"irreps_node={self.irreps_node!r}"
                )
        if len(self.feature_channels) not in (1, degrees):
            raise ValueError(
                f"irreps_feature={self.irreps_feature!r} must be scalars only, or have the degrees "
                f"of irreps_node={self.irreps_node!r}"
            )
        if self.num_distance_basis < 2:
            raise ValueError("num_distance_basis must be at least 2")
        for name in ("alpha_drop", "drop_path_rate"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if self.elements is not None:
            known = range(1, self.max_num_elements)
            if len(set(self.elements)) < len(self.elements) or not set(self.elements) <= set(known):
                raise ValueError(
                    f"elements must be different atomic numbers from 1 to {known[-1]} (one below "
                    f"max_num_elements), got {list(self.elements)}"
                )
        super().__post_init__()

    def _channels(self, name: str) -> Channels:
        return parse_channels(getattr(self, name), name)

    @property
    def lmax(self) -> int:
        """L_max."""
        return len(self.node_channels) - 1

    @property
    def node_channels(self) -> Channels:
        """C_l of nodes and messages."""
        return self._channels("irreps_node")

    @property
    def feature_channels(self) -> Channels:
        """C_l of the node embeddings that heads read."""
        return self._channels("irreps_feature")

    @property
    def head_channels(self) -> Channels:
        """C_l of one attention head."""
        return self._channels("irreps_head")

    @property
    def ffn_channels(self) -> Channels:
        """C_l inside the feed-forward network."""
        return self._channels("irreps_ffn")
