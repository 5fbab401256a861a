"""Where the numbers of an edge lie, as arrays that compiled kernels can index."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.geometry.wigner import truncation_scale


@dataclass(frozen=True)
class EdgeTables:
    """Rows of an edge feature in the order of the packed Wigner matrices: degree, then order m.

    Attributes:
        row: [size] row in the order-major layout.
        degree: [size] degree l.
        first: [size] first of the row's 2l + 1 entries in the packed Wigner matrices.
        order_block: [size] block of radial weights, one per (order m >= 0, degree).
        degree_block: [size] block of radial weights, one per degree (``use_m_share_rad``).
        scale: [size] factor of the rotation back, see `truncation_scale`.
        packed_size: entries of the packed Wigner matrices per edge.
    """

    row: np.ndarray
    degree: np.ndarray
    first: np.ndarray
    order_block: np.ndarray
    degree_block: np.ndarray
    scale: np.ndarray
    packed_size: int


@cache
def edge_tables(layout: EdgeLayout) -> EdgeTables:
    """The tables of a layout."""
    blocks: dict[tuple[int, int], int] = {}
    for order in range(layout.mmax + 1):
        for degree in range(order, layout.lmax + 1):
            blocks[degree, order] = len(blocks)
    rows, first = [], 0
    for degree in range(layout.lmax + 1):
        kept = min(degree, layout.mmax)
        for order in range(-kept, kept + 1):
            row = layout.row_index[degree, order]
            rows.append((row, degree, first, blocks[degree, abs(order)]))
            first += 2 * degree + 1
    columns = [np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)]
    scale = [truncation_scale(int(degree), layout.mmax) for degree in columns[1]]
    return EdgeTables(
        row=columns[0],
        degree=columns[1],
        first=columns[2],
        order_block=columns[3],
        degree_block=columns[1],
        scale=np.array(scale, dtype=np.float32),
        packed_size=first,
    )


@cache
def order_tables(layout: EdgeLayout, order: int) -> EdgeTables:
    """The tables of the rows of one order; rows and blocks counted from the first of them.

    Args:
        layout: the edge layout.
        order: m, positive or negative.
    """
    whole = edge_tables(layout)
    first = layout.row_index[abs(order), order]
    mine = (whole.row >= first) & (whole.row < first + layout.num_degrees(order))
    degree = whole.degree[mine]
    return EdgeTables(
        row=whole.row[mine] - first,
        degree=degree,
        first=whole.first[mine],
        order_block=degree - abs(order),
        degree_block=degree - abs(order),
        scale=whole.scale[mine],
        packed_size=whole.packed_size,
    )


def radial_blocks(layout: EdgeLayout, weights: int, channels: int) -> np.ndarray:
    """Block of radial weights of each row, in the order of `EdgeTables`.

    Args:
        layout: the edge layout.
        weights: radial weights per edge.
        channels: channels C of the nodes; a block has 2C weights.

    Raises:
        ValueError: the radial weights fit neither way of sharing.
    """
    tables = edge_tables(layout)
    by_count = {int(b.max()) + 1: b for b in (tables.degree_block, tables.order_block)}
    count, rest = divmod(weights, 2 * channels)
    if rest or count not in by_count:
        raise ValueError(f"{weights} radial weights per edge fit no layout of {layout}")
    return by_count[count]
