"""The EquiformerV2 backbone (Figure 1a)."""

from __future__ import annotations

from typing import Any

import torch
from fairchem.core.common.registry import registry
from torch import nn

from eqv2_plugin.backbones.equiformer_v2.block import (
    TransformerBlock,
    make_attention,
    make_feed_forward,
    radial_options,
)
from eqv2_plugin.backbones.equiformer_v2.config import EquiformerV2Config
from eqv2_plugin.backbones.protocol import Backbone, Spherical
from eqv2_plugin.geometry.edge_frames import edge_frames
from eqv2_plugin.geometry.irreps import EdgeLayout, num_coefficients
from eqv2_plugin.geometry.wigner import stretched_coupling, wigner_rows
from eqv2_plugin.graphs.build import Graph
from eqv2_plugin.kernels.choice import better_uncompiled, choose_kernels
from eqv2_plugin.kernels.gather import gather_few
from eqv2_plugin.layers.constants import ExactConstants
from eqv2_plugin.layers.edge_degree import EdgeDegreeEmbedding
from eqv2_plugin.layers.edges import EdgeBatch, chunk_size
from eqv2_plugin.layers.force_embedding import ForceEmbedding
from eqv2_plugin.layers.norms import make_norm
from eqv2_plugin.layers.radial import GaussianBasis, LearnableGaussianBasis, end_elements


class WignerConstants(ExactConstants):
    """Clebsch-Gordan couplings of `wigner_rows` in the model's dtype."""

    def __init__(self, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        for degree in range(2, lmax + 1):
            self.register_constant(f"coupling_{degree}", stretched_coupling(degree))

    def couplings(self) -> list[torch.Tensor]:
        return [getattr(self, f"coupling_{degree}") for degree in range(2, self.lmax + 1)]


@registry.register_model("equiformer_v2_backbone")
class EquiformerV2Backbone(Backbone):
    """Node embeddings of degrees 0..lmax for every atom, [N, (lmax+1)^2, C].

    Args:
        **options: fields of `EquiformerV2Config`.

    Raises:
        ValueError, RuntimeError: see `Backbone`.
    """

    Options = EquiformerV2Config
    config: EquiformerV2Config

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        config = self.config
        channels = config.sphere_channels
        radial = radial_options(config)
        self.layout = EdgeLayout(config.lmax, config.mmax)
        self.wigner_constants = WignerConstants(config.lmax)
        basis = GaussianBasis if config.distance_basis == "gaussian" else LearnableGaussianBasis
        self.distance_basis = basis(config.cutoff, config.num_distance_basis)
        self.atom_embedding = nn.Embedding(config.max_num_elements, channels)
        self.shared_pairs = radial.pairs("shared")
        self.force_embedding = (
            ForceEmbedding(config.lmax, channels, config.sigma_encoding, config.force_scale)
            if config.force_encoding
            else None
        )
        self.edge_degree_embedding = EdgeDegreeEmbedding(
            self.layout, channels, radial, config.avg_degree
        )
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.num_layers))
        self.norm = make_norm(config.norm_type, config.lmax, channels)

    def scalar_network(self) -> nn.Module:
        """A feed-forward network of which degree 0 is computed (section 3.5)."""
        return make_feed_forward(self.config, out_channels=1, scalars_only=True)

    def vector_network(self) -> nn.Module:
        """An attention block of which degree 1 is computed, (x, y, z) (section 3.5)."""
        return make_attention(self.config, out_channels=1, alpha_drop=0.0, out_degree=1)

    @property
    def spherical(self) -> Spherical:
        """See `Backbone`."""
        return Spherical(self.config.lmax, self.config.sphere_channels, self.config.norm_type)

    def better_uncompiled(self, positions: torch.Tensor) -> bool:
        """See `Backbone`."""
        return self.config.direct_forces and better_uncompiled(
            positions.device, positions.dtype, self.config.sphere_channels
        )

    def embed(
        self,
        graph: Graph,
        atomic_numbers: torch.Tensor,
        structure_of_atom: torch.Tensor,
        num_structures: int,
        frames: torch.Tensor | None = None,
        encoded: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> dict[str, Any]:
        """See `Backbone`.

        Args:
            graph, atomic_numbers, structure_of_atom, num_structures, encoded: see there.
            frames: [E, 3, 3] edge frames; `edge_frames` of the vectors by default.
        """
        edges = self._edge_batch(graph, atomic_numbers, frames)
        scalars = gather_few(self.atom_embedding.weight, atomic_numbers)  # [N, C]
        rows = num_coefficients(self.config.lmax)
        nodes = nn.functional.pad(scalars.unsqueeze(1), (0, 0, 0, rows - 1))  # [N, rows, C]
        if self.force_embedding is not None:
            if encoded is None:
                encoded = graph.vectors.new_zeros(len(scalars), 3), scalars.new_zeros(len(scalars))
            nodes = nodes + self.force_embedding(*encoded)
        nodes = nodes + self.edge_degree_embedding(edges)
        for block in self.blocks:
            nodes = block(nodes, edges, structure_of_atom, num_structures)
        return {"node_embedding": self.norm(nodes), "edges": edges, "graph": graph}

    def _edge_batch(
        self, graph: Graph, atomic_numbers: torch.Tensor, frames: torch.Tensor | None
    ) -> EdgeBatch:
        source, target = graph.edge_index
        # Geometry keeps the full precision of the positions, also under autocast.
        with torch.autocast(graph.vectors.device.type, enabled=False):
            if frames is None:
                frames = edge_frames(graph.vectors)
            distances = torch.linalg.vector_norm(graph.vectors, dim=1)
            wigner = wigner_rows(frames, self.layout, self.wigner_constants.couplings())
            basis = self.distance_basis(distances)
        channels = self.config.sphere_channels
        features = len(atomic_numbers) * num_coefficients(self.config.lmax) * channels
        kernels = choose_kernels(wigner[-1], features, channels)
        most = self.config.max_num_elements
        recompute = self.config.activation_checkpointing and torch.is_grad_enabled()
        edges = EdgeBatch(
            source=source,
            target=target,
            elements=end_elements(atomic_numbers, source, target, most, basis.dtype),
            basis=basis,
            wigner=wigner,
            offsets=graph.offsets,
            layout=self.layout,
            kernels=kernels,
            packed=kernels.pack(wigner),
            shared_pairs=self.shared_pairs,
            recompute=recompute,
        )
        return edges.cut(chunk_size(self.config.edge_chunk_size, basis, recompute))
