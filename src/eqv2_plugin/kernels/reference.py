"""The reference implementation of all kernels: torch operators, with every derivative."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.geometry.wigner import (
    rotate_degree_back,
    rotate_from_edge_frame,
    rotate_to_edge_frame,
)
from eqv2_plugin.kernels.interface import Edges, Grid, Kernels, OrderBlock, RadialWeights
from eqv2_plugin.kernels.segments import sum_over_neighbours


class ReferenceKernels(Kernels):
    """Any dtype and device, gradients of any order, inside torch.compile, too."""

    def pack(self, wigner: list[torch.Tensor]) -> torch.Tensor | None:
        return None

    def gather_rotate_scale(
        self, nodes: torch.Tensor, edges: Edges, weights: RadialWeights
    ) -> Iterator[OrderBlock]:
        ends = nodes[edges.source], nodes[edges.target]
        rotated = rotate_to_edge_frame(ends, edges.wigner, edges.layout)  # [E, size, 2C]
        whole = weights.whole()
        for order, block in enumerate(blocks_of_orders(rotated, edges.layout)):
            scale = whole[:, weights.columns(order)]
            yield tuple(part * scale for part in block)

    def sampled_silu(self, features: torch.Tensor, grid: Grid, first_row: int) -> torch.Tensor:
        return grid.silu(features, first_row)

    def weigh_rotate_sum(
        self, values: torch.Tensor, attention: torch.Tensor, edges: Edges, degree: int | None
    ) -> torch.Tensor:
        values = values.unflatten(2, (attention.shape[1], -1))
        values = (values * attention[:, None, :, None]).flatten(2)
        if degree is None:
            values = rotate_from_edge_frame(values, edges.wigner, edges.layout)
        else:
            values = rotate_degree_back(values, edges.wigner[degree], degree, edges.layout.mmax)
        return sum_over_neighbours(values, edges.local_target, edges.offsets)


REFERENCE = ReferenceKernels()


def blocks_of_orders(features: torch.Tensor, layout: EdgeLayout) -> Iterator[OrderBlock]:
    """Order-major features [E, layout.size, C], cut into orders 0..mmax."""
    for order in range(layout.mmax + 1):
        rows = features[:, layout.order_slice(order)].flatten(1)
        yield rows.chunk(2 if order else 1, dim=1)
