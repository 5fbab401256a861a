"""What the layers know of the edges of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from eqv2_plugin.geometry.edge_frames import edge_frames
from eqv2_plugin.geometry.exact import exact_einsum
from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.geometry.wigner import stretched_coupling, wigner_rows
from eqv2_plugin.graphs.build import Graph
from eqv2_plugin.layers.constants import ExactConstants


@dataclass(frozen=True)
class Edges:
    """Edges sorted by target.

    Attributes:
        source, target: [E] atoms; messages go from source to target.
        offsets: [N + 1] first edge of every target.
        basis: [E, num_basis] radial basis of the distances.
        rotations: for every degree [E, 4l + 1, 2l + 1], from the global frame to that of the edge.
            Rows 0..2l are the orders 0, -1, 1, -2, 2, ...; the others are those of |m| > 0 again as
            odd paths want them: for every m, minus the row of m, then the row of -m.
    """

    source: torch.Tensor
    target: torch.Tensor
    offsets: torch.Tensor
    basis: torch.Tensor
    rotations: list[torch.Tensor]

    def into_frame(self, blocks: list[torch.Tensor]) -> list[torch.Tensor]:
        """[E, 2l + 1, C_l] by degree, rotated: [E, 4l + 1, C_l]."""
        higher = zip(self.rotations[1:], blocks[1:], strict=True)
        return [blocks[0], *(torch.bmm(rotation, block) for rotation, block in higher)]

    def out_of_frame(self, block: torch.Tensor, degree: int) -> torch.Tensor:
        """[E, 2l + 1, C], orders 0, -1, 1, ..., as [E, 2l + 1, C] in the global frame."""
        if degree == 0:
            return block
        rotation = self.rotations[degree][:, : 2 * degree + 1]
        return torch.bmm(rotation.transpose(1, 2), block)


class Rotations(ExactConstants):
    """From edge vectors [E, 3] to the rotations of `Edges`."""

    def __init__(self, lmax: int) -> None:
        super().__init__()
        self.layout = EdgeLayout(lmax, lmax)
        for degree in range(1, lmax + 1):
            self.register_constant(f"order_{degree}", _signed_rows(degree))
        for degree in range(2, lmax + 1):
            self.register_constant(f"coupling_{degree}", stretched_coupling(degree))

    def forward(self, vectors: torch.Tensor) -> list[torch.Tensor]:
        couplings = [getattr(self, f"coupling_{l}") for l in range(2, self.layout.lmax + 1)]
        blocks = wigner_rows(edge_frames(vectors), self.layout, couplings)
        ordered = [
            exact_einsum("rk,ekc->erc", getattr(self, f"order_{l}"), blocks[l])
            for l in range(1, len(blocks))
        ]
        return [blocks[0], *ordered]


def _signed_rows(degree: int) -> np.ndarray:
    """[4l + 1, 2l + 1]: from orders -l..l to the rows of `Edges.rotations`."""
    rows = [(0, 1.0)]
    for order in range(1, degree + 1):
        rows += [(-order, 1.0), (order, 1.0)]
    for order in range(1, degree + 1):
        rows += [(order, -1.0), (-order, 1.0)]
    matrix = np.zeros((len(rows), 2 * degree + 1))
    for row, (order, sign) in enumerate(rows):
        matrix[row, degree + order] = sign
    return matrix


def edges_of(graph: Graph, basis: torch.nn.Module, rotations: Rotations) -> Edges:
    """Geometry of a graph, in the full precision of the positions, also under autocast."""
    with torch.autocast(graph.vectors.device.type, enabled=False):
        source, target = graph.edge_index
        distances = torch.linalg.vector_norm(graph.vectors, dim=1)
        return Edges(source, target, graph.offsets, basis(distances), rotations(graph.vectors))
