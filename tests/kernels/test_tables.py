"""Factors of sphere grids for fused kernels."""

from __future__ import annotations

import pytest
from kernel_inputs import sphere_grid

from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.geometry.sphere_grid import edge_grid_matrices, grid_shape
from eqv2_plugin.kernels.tables import factorise


def test_an_odd_number_of_longitudes_has_no_factors():
    assert grid_shape(4, 2, None)[1] % 2 == 1
    assert sphere_grid(4, 2, None).factors is None


def test_matrices_that_are_no_product_are_refused():
    to_grid, from_grid = edge_grid_matrices(EdgeLayout(2, 2), 6)
    spoilt = to_grid.copy()
    spoilt[3, 4] += 0.1
    orders = [order for _, order in EdgeLayout(2, 2).rows]
    with pytest.raises(ValueError, match="no products of latitudes and longitudes"):
        factorise(spoilt, from_grid, orders, 6)
