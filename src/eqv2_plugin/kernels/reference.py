"""The reference implementation of all kernels: torch operators, with every derivative."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch

from eqv2_plugin.geometry.irreps import EdgeLayout, num_coefficients
from eqv2_plugin.geometry.wigner import (
    rotate_degree_back,
    rotate_from_edge_frame,
    rotate_to_edge_frame,
    truncation_scale,
)
from eqv2_plugin.kernels.gather import gather_ends
from eqv2_plugin.kernels.interface import Edges, Grid, Kernels, OrderBlock, RadialWeights
from eqv2_plugin.kernels.segments import sum_over_neighbours
from eqv2_plugin.kernels.tables import edge_tables

# Degrees up to which one matrix per edge serves better than a block per degree.
_DENSE_UP_TO = 6


class ReferenceKernels(Kernels):
    """Any dtype and device, gradients of any order, inside torch.compile, too."""

    def pack(self, wigner: list[torch.Tensor]) -> torch.Tensor | None:
        """The blocks as one matrix per edge, where that is faster; see `dense_rows`."""
        # torch.compile would trace the making of constants; a record just holds them.
        if len(wigner) - 1 > _DENSE_UP_TO or torch.compiler.is_compiling():
            return None
        layout = EdgeLayout(len(wigner) - 1, wigner[-1].shape[1] // 2)
        device, dtype = wigner[0].device, wigner[0].dtype
        # A copy to a GPU is worth keeping.
        constants = _places_and_scales if device.type == "cpu" else _kept_on_device
        places, scales = constants(layout, device, dtype)
        rows = dense_rows(wigner, layout, places)
        if layout.lmax <= layout.mmax:
            return rows.unsqueeze(1)
        return torch.stack((rows, rows * scales), dim=1)

    def gather_rotate_scale(
        self, nodes: torch.Tensor, edges: Edges, weights: RadialWeights
    ) -> Iterator[OrderBlock]:
        ends = gather_ends(nodes, edges.source, edges.target)
        if edges.packed is None:
            rotated = rotate_to_edge_frame((ends,), edges.wigner, edges.layout)
        else:
            rotated = torch.bmm(edges.packed[:, 0], ends)  # [E, size, 2C]
        orders = range(edges.layout.mmax + 1)
        rows = rotated.split([edges.layout.num_rows(order) for order in orders], dim=1)
        for block, scale in zip(rows, weights.by_order(), strict=True):
            # [E, 1, n 2C] of order 0, [E, 2, n 2C] of +m and -m.
            block = block.unflatten(1, (-1, scale.shape[1] // block.shape[2])).flatten(2)
            yield (block * scale.unsqueeze(1)).unbind(1)

    def sampled_silu(self, features: torch.Tensor, grid: Grid, first_row: int) -> torch.Tensor:
        return grid.silu(features, first_row)

    def weigh_rotate_sum(
        self, values: torch.Tensor, attention: torch.Tensor, edges: Edges, degree: int | None
    ) -> torch.Tensor:
        values = values.unflatten(2, (attention.shape[1], -1))
        values = (values * attention[:, None, :, None]).flatten(2)
        if degree is None and edges.packed is not None:
            values = torch.bmm(edges.packed[:, -1].transpose(1, 2), values)
        elif degree is None:
            values = rotate_from_edge_frame(values, edges.wigner, edges.layout)
        else:
            values = rotate_degree_back(values, edges.wigner[degree], degree, edges.layout.mmax)
        return sum_over_neighbours(values, edges.local_target, edges.offsets)


REFERENCE = ReferenceKernels()


def dense_rows(
    wigner: list[torch.Tensor], layout: EdgeLayout, places: torch.Tensor
) -> torch.Tensor:
    """Blocks of `wigner_rows` in one matrix, [E, layout.size, (lmax+1)^2], rows order-major.

    One product then rotates all degrees, and leaves the rows where they belong. It multiplies many
    zeros, which costs less than the operators that it replaces as long as lmax is small.
    """
    entries = torch.cat([block.flatten(1) for block in wigner], dim=1)
    columns = num_coefficients(layout.lmax)
    rows = entries.new_zeros(len(entries), layout.size * columns)
    rows = rows.index_copy_(1, places, entries)
    return rows.view(-1, layout.size, columns)


def _places_and_scales(
    layout: EdgeLayout, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the entries of `dense_rows` lie, and factors of the rotation back, [layout.size, 1]."""
    places, scales = _tables(layout)
    # Later passes may want derivatives of what this one, without, makes.
    with torch.inference_mode(False):
        return torch.tensor(places, device=device), torch.tensor(scales, device=device, dtype=dtype)


_kept_on_device = lru_cache(maxsize=64)(_places_and_scales)


@lru_cache(maxsize=64)
def _tables(layout: EdgeLayout) -> tuple[np.ndarray, np.ndarray]:
    """See `truncation_scale` for the second."""
    tables, columns = edge_tables(layout), num_coefficients(layout.lmax)
    places = [
        row * columns + degree * degree + column
        for row, degree in zip(tables.row.tolist(), tables.degree.tolist(), strict=True)
        for column in range(2 * degree + 1)
    ]
    scales = [[truncation_scale(degree, layout.mmax)] for degree, _ in layout.rows]
    return np.array(places), np.array(scales)


def blocks_of_orders(features: torch.Tensor, layout: EdgeLayout) -> Iterator[OrderBlock]:
    """Order-major features [E, layout.size, C], cut into orders 0..mmax."""
    # The derivative of a split is one concatenation; a slice's fills a whole tensor with zeros.
    rows = features.split([layout.num_rows(order) for order in range(layout.mmax + 1)], dim=1)
    for order, block in enumerate(rows):
        yield block.flatten(1).chunk(2 if order else 1, dim=1)
