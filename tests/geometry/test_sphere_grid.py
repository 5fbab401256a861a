"""Grids on the sphere: exact round trips, and refusals of grids that would lose degrees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.geometry.sphere_grid import (
    edge_grid_matrices,
    grid_shape,
    sphere_grid_matrices,
)
from eqv2_plugin.geometry.wigner import truncation_scale


@pytest.mark.parametrize(
    ("lmax", "resolution"),
    [(1, None), (2, None), (4, None), (6, None), (8, None), (1, 4), (4, 18), (6, 14), (6, 18)],
)
def test_projection_undoes_sampling_where_no_order_is_cut(lmax, resolution):
    to_grid, from_grid = sphere_grid_matrices(lmax, lmax, resolution)
    assert to_grid.dtype == from_grid.dtype == np.float64
    num_points = np.prod(grid_shape(lmax, lmax, resolution))
    assert to_grid.shape == from_grid.T.shape == (num_points, (lmax + 1) ** 2)
    np.testing.assert_allclose(from_grid @ to_grid, np.eye((lmax + 1) ** 2), atol=1e-13)


@pytest.mark.parametrize(("lmax", "mmax"), [(4, 2), (6, 2), (6, 3), (8, 2)])
def test_projection_undoes_sampling_up_to_the_scale_of_truncated_degrees(lmax, mmax):
    to_grid, from_grid = sphere_grid_matrices(lmax, mmax, 18)
    scale = [
        truncation_scale(degree, mmax) ** 2
        for degree in range(lmax + 1)
        for _ in range(2 * min(degree, mmax) + 1)
    ]
    np.testing.assert_allclose(from_grid @ to_grid, np.diag(scale), atol=1e-13)


def test_a_constant_on_the_sphere_is_a_feature_of_degree_0():
    to_grid, from_grid = sphere_grid_matrices(4, 4, 18)
    projected = from_grid @ np.ones(from_grid.shape[1])
    np.testing.assert_allclose(projected[1:], 0, atol=1e-13)
    np.testing.assert_allclose(projected[0] * to_grid[:, 0], 1, atol=1e-13)


@pytest.mark.parametrize(("lmax", "mmax"), [(2, 2), (4, 2), (6, 3)])
def test_matrices_of_edge_features_are_those_of_node_features_in_another_order(lmax, mmax):
    layout = EdgeLayout(lmax, mmax)
    to_grid, from_grid = sphere_grid_matrices(lmax, mmax, 18)
    to_edge, from_edge = edge_grid_matrices(layout, 18)
    order = [row for degree in range(lmax + 1) for row in layout.rows_within_degree(degree)]
    np.testing.assert_array_equal(to_edge[:, order], to_grid)
    np.testing.assert_array_equal(from_edge[order], from_grid)


@pytest.mark.parametrize(("lmax", "resolution"), [(6, 12), (8, 16), (4, 8), (1, 2)])
def test_a_grid_that_is_too_coarse_is_refused(lmax, resolution):
    with pytest.raises(ValueError, match=f"needs at least {2 * lmax + 2}"):
        sphere_grid_matrices(lmax, lmax, resolution)


def test_an_odd_resolution_is_refused():
    with pytest.raises(ValueError, match="must be even, got 17"):
        grid_shape(4, 2, 17)


def test_matrices_do_not_depend_on_the_default_dtype_and_leave_it_alone():
    compute = sphere_grid_matrices.__wrapped__
    assert torch.get_default_dtype() == torch.float32
    in_float32 = compute(3, 2, 18)
    torch.set_default_dtype(torch.float64)
    try:
        in_float64 = compute(3, 2, 18)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    for first, second in zip(in_float32, in_float64, strict=True):
        np.testing.assert_array_equal(first, second)
