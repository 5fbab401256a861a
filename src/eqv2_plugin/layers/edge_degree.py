"""Edge-degree embedding (section 3.5, "Embedding"; right branch of Figure 1c)."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from eqv2_plugin.backbones.equiformer_v2.config import BackboneConfig
from eqv2_plugin.geometry.wigner import rotate_degree_back
from eqv2_plugin.kernels.segments import sum_over_neighbours
from eqv2_plugin.layers.edges import EdgeBatch
from eqv2_plugin.layers.radial import AtomPairEmbedding, RadialFunction


class EdgeDegreeEmbedding(nn.Module):
    """Radial weights placed on the orders m = 0 of each edge, turned back and summed.

    Returns [N, (lmax+1)^2, C], divided by the average degree of the training set.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.lmax = config.lmax
        self.channels = config.sphere_channels
        self.avg_degree = config.avg_degree
        self.recompute = config.activation_checkpointing
        own_pairs = config.atom_edge_embedding == "per_block"
        self.atom_pairs = (
            AtomPairEmbedding(config.max_num_elements, config.edge_channels) if own_pairs else None
        )
        self.radial = RadialFunction(
            config.num_distance_basis,
            config.edge_channels,
            (config.lmax + 1) * config.sphere_channels,
            config.atom_edge_embedding != "none",
        )

    def forward(self, edges: EdgeBatch) -> torch.Tensor:
        recompute = self.recompute and torch.is_grad_enabled()
        pieces = []
        for chunk in edges.chunks:
            if recompute:
                pieces.append(checkpoint(self._sum, chunk, use_reentrant=False))
            else:
                pieces.append(self._sum(chunk))
        summed = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=0)
        return summed / self.avg_degree

    def _sum(self, edges: EdgeBatch) -> torch.Tensor:
        """Radial weights rotated to the global frame, summed over neighbours."""
        pairs = self.atom_pairs if self.atom_pairs is not None else edges.shared_pairs
        weights = self.radial(edges.basis, edges.elements, pairs)
        weights = weights.view(-1, self.lmax + 1, self.channels).unbind(1)
        turned = []
        for degree, block in enumerate(edges.wigner):
            middle = block.shape[1] // 2
            # Only the row m = 0 of the edge frame is occupied.
            row = block[:, middle : middle + 1]
            turned.append(
                rotate_degree_back(weights[degree].unsqueeze(1), row, degree, edges.layout.mmax)
            )
        return sum_over_neighbours(torch.cat(turned, dim=1), edges.local_target, edges.offsets)
