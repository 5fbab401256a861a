"""Where the numbers of edges and grids lie, as arrays that fused kernels can index."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.geometry.wigner import truncation_scale


@dataclass(frozen=True, eq=False)
class EdgeTables:
    """Rows of an edge feature in the order of the packed Wigner rows: degree, then order m.

    Attributes:
        lmax: maximum degree.
        row: [size] row in the result, which is order-major.
        degree: [size] degree l.
        first: [size] first of the row's 2l + 1 entries in the packed Wigner rows.
        block: [size] block of radial weights.
        scale: [size] factor of the rotation back, see `truncation_scale`.
        packed_size: entries of the packed Wigner rows per edge.
    """

    lmax: int
    row: np.ndarray
    degree: np.ndarray
    first: np.ndarray
    block: np.ndarray
    scale: np.ndarray
    packed_size: int

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.row)

    @property
    def blocks(self) -> int:
        """Number of blocks of radial weights."""
        return int(self.block.max()) + 1


@cache
def edge_tables(layout: EdgeLayout, shared: bool = False) -> EdgeTables:
    """All rows of a layout.

    Args:
        layout: the edge layout.
        shared: one block of radial weights per degree (``use_m_share_rad``), not one per
            (order m >= 0, degree).
    """
    pairs = [(l, m) for m in range(layout.mmax + 1) for l in range(m, layout.lmax + 1)]
    rows, first = [], 0
    for degree in range(layout.lmax + 1):
        kept = min(degree, layout.mmax)
        for order in range(-kept, kept + 1):
            block = degree if shared else pairs.index((degree, abs(order)))
            rows.append((layout.row_index[degree, order], degree, first, block))
            first += 2 * degree + 1
    row, degrees, firsts, blocks = (np.array(c, dtype=np.int64) for c in zip(*rows, strict=True))
    scale = np.array([truncation_scale(int(l), layout.mmax) for l in degrees], dtype=np.float32)
    return EdgeTables(layout.lmax, row, degrees, firsts, blocks, scale, packed_size=first)


@cache
def order_tables(layout: EdgeLayout, order: int) -> EdgeTables:
    """The rows of one order m, positive or negative; rows and blocks counted from their first."""
    whole = edge_tables(layout)
    first = layout.row_index[abs(order), order]
    mine = (whole.row >= first) & (whole.row < first + layout.num_degrees(order))
    degree = whole.degree[mine]
    return EdgeTables(
        lmax=layout.lmax,
        row=whole.row[mine] - first,
        degree=degree,
        first=whole.first[mine],
        block=degree - abs(order),
        scale=whole.scale[mine],
        packed_size=whole.packed_size,
    )


@cache
def degree_tables(layout: EdgeLayout, degree: int) -> EdgeTables:
    """The rows of one degree, orders ascending."""
    whole = edge_tables(layout)
    mine = whole.degree == degree
    columns = (column[mine] for column in (whole.degree, whole.first, whole.block, whole.scale))
    row = np.arange(int(mine.sum()))
    return EdgeTables(layout.lmax, row, *columns, packed_size=whole.packed_size)


@dataclass(frozen=True, eq=False)
class GridFactors:
    """Grid matrices as products of a latitude and a longitude factor.

    ``to_grid[(b, a), i] = to_lat[b, i] longitude[a, order[i]]``, and ``from_grid`` likewise.

    Attributes:
        to_lat, from_lat: [latitudes, K], float32.
        longitude: [longitudes, 2 mmax + 1], float32; half a turn apart, even orders are equal and
            odd ones opposite.
        order: [K] column of each row, m + mmax.
    """

    to_lat: np.ndarray
    from_lat: np.ndarray
    longitude: np.ndarray
    order: np.ndarray

    @property
    def mmax(self) -> int:
        return self.longitude.shape[1] // 2


def factorise(
    to_grid: np.ndarray, from_grid: np.ndarray, orders: list[int], longitudes: int
) -> GridFactors | None:
    """Factors of grid matrices, or None where the longitudes come in no pairs.

    Args:
        to_grid, from_grid: [G, K] and [K, G], float64, longitudes innermost.
        orders: order m of every row.
        longitudes: number of equidistant longitudes, the first at 0.

    Raises:
        ValueError: the matrices are no such products.
    """
    if longitudes % 2:
        return None
    mmax = max(map(abs, orders))
    angle = 2 * np.pi * np.arange(longitudes) / longitudes
    columns = [np.sin(-m * angle) if m < 0 else np.cos(m * angle) for m in range(-mmax, mmax + 1)]
    longitude = np.stack(columns, axis=1)
    column = np.array(orders) + mmax
    picked = longitude[:, column]
    factors = []
    for matrix in (to_grid, from_grid.T):
        grid = matrix.reshape(-1, longitudes, len(orders))
        # Least squares; a sine of order L/2 vanishes on L points, and so does its row.
        norm = np.maximum((picked**2).sum(axis=0), 1e-9)
        factor = (grid * picked).sum(axis=1) / norm
        if np.abs(factor[:, None] * picked - grid).max() > 1e-9 * np.abs(grid).max():
            raise ValueError("the grid matrices are no products of latitudes and longitudes")
        factors.append(np.ascontiguousarray(factor, dtype=np.float32))
    to_lat, from_lat = factors
    return GridFactors(to_lat, from_lat, longitude.astype(np.float32), column)
