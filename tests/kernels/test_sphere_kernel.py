"""Compiled S2 activation against its plain twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernel_inputs import relative_error, strided

from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.geometry.sphere_grid import edge_grid_matrices, grid_shape
from eqv2_plugin.kernels.sphere import factorise, sampled_silu

GRIDS = [
    (1, 0, 18), (1, 1, 18), (2, 2, 6), (3, 2, 18), (4, 2, 18), (5, 3, 18), (6, 2, 18),
    (6, 3, 14), (7, 2, 18), (8, 2, 20), (3, 3, 8), (2, 1, 6),
]  # fmt: skip


def grid(lmax, mmax, resolution):
    layout = EdgeLayout(lmax, mmax)
    matrices = edge_grid_matrices(layout, resolution)
    orders = [order for _, order in layout.rows]
    _, longitudes = grid_shape(lmax, mmax, resolution)
    return matrices, factorise(*matrices, orders, longitudes)


def plain(features, matrices, first_row):
    to_grid, from_grid = (torch.from_numpy(matrix) for matrix in matrices)
    samples = torch.einsum("gk,nkc->ngc", to_grid, features)
    samples = samples / (1 + torch.exp(-samples))
    return torch.einsum("kg,ngc->nkc", from_grid[first_row:], samples)


@pytest.mark.parametrize("first_row", [0, 1])
@pytest.mark.parametrize(("lmax", "mmax", "resolution"), GRIDS)
def test_values_and_gradients_equal_the_plain_twin(lmax, mmax, resolution, first_row):
    matrices, factors = grid(lmax, mmax, resolution)
    generator = torch.Generator().manual_seed(lmax)
    shape = (19, EdgeLayout(lmax, mmax).size, 16)
    features = (2 * torch.randn(*shape, generator=generator)).requires_grad_()
    exact = features.detach().double().requires_grad_()
    found = sampled_silu(features, factors, first_row)
    wanted = plain(exact, matrices, first_row)
    assert relative_error(found, wanted) < 1e-6
    gradient = torch.randn(*found.shape, generator=generator)
    (ours,) = torch.autograd.grad(found, features, gradient)
    (theirs,) = torch.autograd.grad(wanted, exact, gradient.double())
    assert relative_error(ours, theirs) < 1e-6


@pytest.mark.parametrize("size", [0.0, 1e-20, 30.0, 1e3, 1e30])
def test_extreme_samples_stay_exact(size):
    matrices, factors = grid(2, 2, 6)
    generator = torch.Generator().manual_seed(0)
    features = size * torch.randn(4, 9, 16, generator=generator)
    wanted = plain(features.double(), matrices, 0)
    found = sampled_silu(features, factors, 0)
    assert torch.isfinite(found).all()
    if size == 0.0:
        assert not found.any()
    else:
        assert relative_error(found, wanted) < 1e-6


def test_strided_features_give_the_same_bits():
    _, factors = grid(2, 2, 6)
    features = torch.randn(7, 9, 16, generator=torch.Generator().manual_seed(0))
    given = strided(features)
    assert not given.is_contiguous()
    assert torch.equal(sampled_silu(given, factors, 1), sampled_silu(features, factors, 1))
    weights, results = torch.randn(7, 8, 16, generator=torch.Generator().manual_seed(1)), []
    for rows, gradient in ((given, strided(weights)), (features, weights)):
        leaf = rows.detach().requires_grad_()
        results.append(torch.autograd.grad(sampled_silu(leaf, factors, 1), leaf, gradient)[0])
    assert torch.equal(*results)


def test_no_rows_give_no_rows():
    _, factors = grid(2, 2, 6)
    features = torch.empty(0, 9, 16, requires_grad=True)
    out = sampled_silu(features, factors, 1)
    assert out.shape == (0, 8, 16)
    assert torch.autograd.grad(out.sum(), features)[0].shape == features.shape


def test_two_threads_give_the_same_bits():
    _, factors = grid(2, 2, 6)
    features = torch.randn(90, 9, 16, generator=torch.Generator().manual_seed(0))
    features.requires_grad_()
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out = sampled_silu(features, factors, 1)
            results.append((out, *torch.autograd.grad(out.square().sum(), features)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_an_odd_number_of_longitudes_has_no_factors():
    assert grid_shape(4, 2, None)[1] % 2 == 1
    assert grid(4, 2, None)[1] is None


def test_matrices_that_are_no_product_are_refused():
    (to_grid, from_grid), _ = grid(2, 2, 6)
    spoilt = to_grid.copy()
    spoilt[3, 4] += 0.1
    orders = [order for _, order in EdgeLayout(2, 2).rows]
    with pytest.raises(ValueError, match="no products of latitudes and longitudes"):
        factorise(spoilt, from_grid, orders, 6)
    assert np.isfinite(to_grid).all()
