"""The Equiformer backbone (Figure 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from fairchem.core.common.registry import registry
from torch import nn

from eqv2_plugin.backbones.equiformer_v1.bases import make_basis
from eqv2_plugin.backbones.equiformer_v1.block import TransformerBlock, make_attention
from eqv2_plugin.backbones.equiformer_v1.config import EquiformerV1Config
from eqv2_plugin.backbones.equiformer_v1.edges import Rotations, edges_of
from eqv2_plugin.backbones.equiformer_v1.embeddings import (
    EdgeDegreeEmbedding,
    NodeForceEmbedding,
    TypeEmbedding,
)
from eqv2_plugin.backbones.equiformer_v1.feed_forward import ScalarNetwork
from eqv2_plugin.backbones.equiformer_v1.norm import DegreeNorm
from eqv2_plugin.backbones.protocol import Backbone
from eqv2_plugin.common.naming import element_name
from eqv2_plugin.graphs.build import Graph

if TYPE_CHECKING:
    from ase import Atoms
    from fairchem.core.datasets.atomic_data import AtomicData

# OC20: below the surface, at the surface, adsorbate.
_NUM_TAGS = 3


@registry.register_model("equiformer_v1_backbone")
class EquiformerV1Backbone(Backbone):
    """Node embeddings for every atom, [N, width of feature_channels], see `irreps`.

    Args:
        **options: fields of `EquiformerV1Config`.

    Raises:
        ValueError, RuntimeError: see `Backbone`.
    """

    Options = EquiformerV1Config
    config: EquiformerV1Config

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        config = self.config
        channels = config.node_channels
        num_types = len(config.elements) if config.elements else config.max_num_elements
        self.atom_embedding = TypeEmbedding(num_types, channels, config.elements)
        self.tag_embedding = TypeEmbedding(_NUM_TAGS, channels) if config.tag_embedding else None
        self.distance_basis = make_basis(
            config.distance_basis, config.cutoff, config.num_distance_basis
        )
        self.rotations = Rotations(config.lmax)
        self.edge_degree_embedding = EdgeDegreeEmbedding(
            channels, config.num_distance_basis, config.edge_channels, config.avg_degree
        )
        self.force_embedding = (
            NodeForceEmbedding(channels, config.sigma_encoding, config.force_scale)
            if config.force_encoding
            else None
        )
        last = config.num_layers - 1
        self.blocks = nn.ModuleList(TransformerBlock(config, i == last) for i in range(last + 1))
        self.norm = DegreeNorm(config.feature_channels)

    def scalar_network(self) -> nn.Module:
        """Two linear layers on the scalars."""
        return ScalarNetwork(self.config.feature_channels)

    def vector_network(self) -> nn.Module:
        """An attention block of which degree 1 is computed, (x, y, z).

        Raises:
            ValueError: the node embeddings are scalars.
        """
        channels = self.config.feature_channels
        if len(channels) == 1:
            raise ValueError(
                f"irreps_feature={self.config.irreps_feature!r} has scalars only, from which no "
                "head predicts direct forces or the noise of DeNS: give it the degrees of "
                "irreps_node, such as '512x0e+256x1e+128x2e'"
            )
        return make_attention(self.config, channels, (0, 1), 0.0, computed=range(1, 2))

    @property
    def energy_divisor(self) -> float:
        """See `Backbone`; published models divide by the square root."""
        return self.config.avg_num_nodes**0.5

    def further_inputs(self, data: AtomicData | dict[str, torch.Tensor]) -> dict[str, Any]:
        """See `Backbone`: tags.

        Raises:
            ValueError: the batch has none.
        """
        if self.tag_embedding is None:
            return {}
        if "tags" not in data:
            raise ValueError("tag_embedding=true needs the tags of atoms, which this batch lacks")
        return {"tags": data["tags"]}

    def embed(
        self,
        graph: Graph,
        atomic_numbers: torch.Tensor,
        structure_of_atom: torch.Tensor,
        num_structures: int,
        *,
        encoded: tuple[torch.Tensor, torch.Tensor] | None = None,
        tags: torch.Tensor | None = None,
    ) -> dict[str, Any]:
        """See `Backbone`.

        Args:
            graph, atomic_numbers, structure_of_atom, num_structures, encoded: see there.
            tags: [N], with ``tag_embedding``.
        """
        edges = edges_of(graph, self.distance_basis, self.rotations)
        nodes = self.atom_embedding(atomic_numbers) + self.edge_degree_embedding(edges)
        if self.tag_embedding is not None:
            nodes = nodes + self.tag_embedding(tags)
        if self.force_embedding is not None:
            if encoded is None:
                encoded = graph.vectors.new_zeros(len(nodes), 3), nodes.new_zeros(len(nodes))
            nodes = nodes + self.force_embedding(*encoded)
        for block in self.blocks:
            nodes = block(nodes, edges, structure_of_atom, num_structures)
        return {"node_embedding": self.norm(nodes), "edges": edges, "graph": graph}

    def validate_atoms_data(self, atoms: Atoms, task_name: str) -> None:
        """See `Backbone`.

        Raises:
            ValueError: see there; also for an element that is not among ``elements``.
        """
        super().validate_atoms_data(atoms, task_name)
        known = self.config.elements
        unknown = sorted(set(map(int, atoms.numbers)) - set(known)) if known else []
        if known and unknown:
            raise ValueError(
                f"the model knows {', '.join(map(element_name, known))} alone, but the structure "
                f"contains {', '.join(map(element_name, unknown))}"
            )
