"""Row layouts of node and edge features."""

from __future__ import annotations

import pytest

from eqv2_plugin.geometry.irreps import (
    EdgeLayout,
    degree_of_row,
    degree_slice,
    num_coefficients,
)

LAYOUTS = [(0, 0), (1, 1), (2, 0), (3, 2), (6, 2), (6, 6), (8, 3)]


@pytest.mark.parametrize("lmax", [0, 1, 4, 8])
def test_degrees_partition_the_rows_of_a_node_feature(lmax):
    rows = list(range(num_coefficients(lmax)))
    assert [row for l in range(lmax + 1) for row in rows[degree_slice(l)]] == rows
    assert all(len(rows[degree_slice(l)]) == 2 * l + 1 for l in range(lmax + 1))
    assert all(row in rows[degree_slice(l)] for row, l in enumerate(degree_of_row(lmax)))


@pytest.mark.parametrize(("lmax", "mmax"), LAYOUTS)
def test_each_order_is_one_block_with_plus_before_minus_and_ascending_degrees(lmax, mmax):
    layout = EdgeLayout(lmax, mmax)
    wanted = []
    for order in range(mmax + 1):
        signs = (order, -order) if order else (0,)
        block = [(l, m) for m in signs for l in range(order, lmax + 1)]
        assert list(layout.rows[layout.order_slice(order)]) == block
        assert len(block) == len(signs) * layout.num_degrees(order)
        wanted += block
    assert layout.rows == tuple(wanted)
    assert layout.size == len(wanted)
    assert layout.row_index == {pair: row for row, pair in enumerate(wanted)}


@pytest.mark.parametrize(("lmax", "mmax"), LAYOUTS)
def test_rows_within_a_degree_ascend_in_order(lmax, mmax):
    layout = EdgeLayout(lmax, mmax)
    for degree in range(lmax + 1):
        pairs = [layout.rows[row] for row in layout.rows_within_degree(degree)]
        kept = min(degree, mmax)
        assert pairs == [(degree, order) for order in range(-kept, kept + 1)]
        assert len(pairs) == 2 * min(degree, layout.mmax) + 1


@pytest.mark.parametrize(("lmax", "mmax"), [(2, 3), (0, 1), (4, -1)])
def test_orders_outside_the_degrees_are_refused(lmax, mmax):
    with pytest.raises(ValueError, match=f"between 0 and lmax={lmax}, got {mmax}"):
        EdgeLayout(lmax, mmax)


def test_a_negative_degree_is_refused():
    with pytest.raises(ValueError, match="lmax must be at least 0"):
        EdgeLayout(-1, 0)
