"""Edge-degree embedding (section 3.5, "Embedding"; right branch of Figure 1c)."""

from __future__ import annotations

import torch
from torch import nn

from eqv2_plugin.geometry.wigner import rotate_degree_back
from eqv2_plugin.kernels.segments import sum_over_neighbours
from eqv2_plugin.layers.edges import EdgeBatch
from eqv2_plugin.layers.radial import RadialOptions


class EdgeDegreeEmbedding(nn.Module):
    """Radial weights placed on the orders m = 0 of each edge, rotated to the global frame, summed.

    Args:
        lmax: maximum degree.
        channels: C.
        radial: options of the radial functions.
        avg_num_neighbors: of an atom in the training set; the sums are divided by it.

    Returns from ``forward``: [N, (lmax+1)^2, C].
    """

    def __init__(
        self, lmax: int, channels: int, radial: RadialOptions, avg_num_neighbors: float
    ) -> None:
        super().__init__()
        self.lmax = lmax
        self.channels = channels
        self.avg_num_neighbors = avg_num_neighbors
        self.atom_pairs = radial.pairs("per_block")
        self.radial = radial.function((lmax + 1) * channels)

    def forward(self, edges: EdgeBatch) -> torch.Tensor:
        return edges.by_chunk(self._sum) / self.avg_num_neighbors

    def _sum(self, edges: EdgeBatch) -> torch.Tensor:
        weights = self.radial(edges.basis, edges.elements, edges.pairs(self.atom_pairs))
        weights = weights.view(-1, self.lmax + 1, self.channels).unbind(1)  # lmax + 1 of [E, C]
        rotated = []
        for degree, block in enumerate(edges.wigner):
            middle = block.shape[1] // 2
            # Only the row m = 0 of the edge frame is occupied.
            row = block[:, middle : middle + 1]
            rotated.append(
                rotate_degree_back(weights[degree].unsqueeze(1), row, degree, edges.layout.mmax)
            )
        # [E, (lmax+1)^2, C]
        return sum_over_neighbours(torch.cat(rotated, dim=1), edges.local_target, edges.offsets)
