"""Edge-degree embedding (section 3.5, "Embedding"; right branch of Figure 1c)."""

from __future__ import annotations

import numpy as np
import torch

from eqv2_plugin.geometry.irreps import EdgeLayout, degree_of_row
from eqv2_plugin.geometry.wigner import truncation_scale
from eqv2_plugin.kernels.segments import sum_over_neighbours
from eqv2_plugin.layers.constants import ExactConstants
from eqv2_plugin.layers.edges import EdgeBatch
from eqv2_plugin.layers.radial import RadialOptions


class EdgeDegreeEmbedding(ExactConstants):
    """Radial weights placed on the orders m = 0 of each edge, rotated to the global frame, summed.

    Args:
        layout: of the edges.
        channels: C.
        radial: options of the radial functions.
        avg_num_neighbors: of an atom in the training set; the sums are divided by it.

    Returns from ``forward``: [N, (lmax+1)^2, C].
    """

    def __init__(
        self, layout: EdgeLayout, channels: int, radial: RadialOptions, avg_num_neighbors: float
    ) -> None:
        super().__init__()
        degrees = range(layout.lmax + 1)
        self.channels = channels
        self.avg_num_neighbors = avg_num_neighbors
        self.atom_pairs = radial.pairs("per_block")
        self.radial = radial.function(len(degrees) * channels)
        scales = [truncation_scale(degree, layout.mmax) for degree in degrees]
        # Which degree each row takes its weight of, and how much: [(lmax+1)^2, lmax+1].
        spread = np.eye(len(degrees))[degree_of_row(layout.lmax)] * scales
        self.register_constant("spread", spread)

    def forward(self, edges: EdgeBatch) -> torch.Tensor:
        return edges.by_chunk(self._sum) / self.avg_num_neighbors

    def _sum(self, edges: EdgeBatch) -> torch.Tensor:
        weights = self.radial(edges.basis, edges.elements, edges.pairs(self.atom_pairs))
        # Only the rows m = 0 of the edge frame are occupied: [E, (lmax+1)^2].
        rows = torch.cat([block[:, block.shape[1] // 2] for block in edges.wigner], dim=1)
        rotation = rows.unsqueeze(2) * self.spread  # [E, (lmax+1)^2, lmax+1]
        weights = weights.unflatten(1, (-1, self.channels))  # [E, lmax+1, C]
        rotated = torch.bmm(rotation, weights)  # [E, (lmax+1)^2, C]
        return sum_over_neighbours(rotated, edges.local_target, edges.offsets)
