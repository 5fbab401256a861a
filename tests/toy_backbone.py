"""A backbone that only the tests know: scalars and vectors that exchange messages along edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from eqv2_plugin.backbones.options import BackboneOptions
from eqv2_plugin.backbones.protocol import Backbone
from eqv2_plugin.backbones.registered import register_backbone
from eqv2_plugin.graphs.build import Graph
from eqv2_plugin.kernels.segments import sum_over_neighbours
from eqv2_plugin.layers.radial import GaussianBasis

register_backbone("toy_backbone.ToyBackbone")
Nodes = tuple[torch.Tensor, torch.Tensor]  # scalars [N, C], vectors [N, 3, C]


@dataclass(frozen=True)
class ToyOptions(BackboneOptions):
    """Number of channels and of rounds of messages."""

    NAME = "toy"

    channels: int = 8
    num_layers: int = 2


class Layer(nn.Module):
    """Sums over neighbours, then an update of every atom; smooth at the cutoff."""

    def __init__(self, options: ToyOptions) -> None:
        super().__init__()
        self.cutoff, channels = options.cutoff, options.channels
        self.basis = GaussianBasis(options.cutoff, channels)
        self.radial = nn.Linear(channels, 4 * channels)
        self.update = nn.Linear(3 * channels, 2 * channels)

    def forward(self, nodes: Nodes, graph: Graph) -> Nodes:
        scalars, vectors = nodes
        source, target = graph.edge_index
        distances = torch.linalg.vector_norm(graph.vectors, dim=1)
        near = (0.5 + 0.5 * torch.cos(torch.pi * distances / self.cutoff)).unsqueeze(1)
        weights = (self.radial(self.basis(distances)) * near).chunk(4, dim=1)  # of [E, C]
        along = (graph.vectors / distances.unsqueeze(1)).unsqueeze(2)  # [E, 3, 1]
        inner = (vectors[source] * along).sum(1)
        messages = weights[0] * scalars[source] + weights[1] * inner
        directed = (weights[2] * scalars[source]).unsqueeze(1) * along
        directed = directed + weights[3].unsqueeze(1) * vectors[source]
        messages = sum_over_neighbours(messages, target, graph.offsets)
        vectors = vectors + sum_over_neighbours(directed, target, graph.offsets)
        features = torch.cat((scalars, messages, vectors.square().sum(1)), dim=1)
        change, gates = self.update(features).tanh().chunk(2, dim=1)
        return scalars + change, vectors * gates.unsqueeze(1)


class Scalars(nn.Sequential):
    def forward(self, nodes: Nodes) -> torch.Tensor:
        return super().forward(nodes[0])


class Vectors(nn.Linear):
    def forward(self, nodes: Nodes, edges: None) -> torch.Tensor:
        return super().forward(nodes[1])


class ToyBackbone(Backbone):
    Options = ToyOptions
    config: ToyOptions

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        channels = self.config.channels
        self.atom_embedding = nn.Embedding(self.config.max_num_elements, channels)
        self.force_embedding = nn.Linear(1, channels, False) if self.config.force_encoding else None
        self.layers = nn.ModuleList(Layer(self.config) for _ in range(self.config.num_layers))

    def embed(
        self,
        graph: Graph,
        atomic_numbers: torch.Tensor,
        structure_of_atom: torch.Tensor,
        num_structures: int,
        *,
        encoded: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> dict[str, Any]:
        scalars = self.atom_embedding(atomic_numbers)
        vectors = scalars.new_zeros(len(scalars), 3, self.config.channels)
        if encoded is not None and self.force_embedding is not None:
            forces = encoded[0] / self.config.force_scale
            vectors = self.force_embedding(forces.unsqueeze(2))
        nodes = scalars, vectors
        for layer in self.layers:
            nodes = layer(nodes, graph)
        return {"node_embedding": nodes, "edges": None, "graph": graph}

    def scalar_network(self) -> nn.Module:
        channels = self.config.channels
        return Scalars(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 1))

    def vector_network(self) -> nn.Module:
        return Vectors(self.config.channels, 1, bias=False)
