"""SiLU on samples of the sphere: piece by piece, with derivatives that recompute the samples."""

from __future__ import annotations

import pytest
import torch
from helpers import largest, randn

from eqv2_plugin.geometry.sphere_grid import sphere_grid_matrices
from eqv2_plugin.layers import sphere_grid
from eqv2_plugin.layers.sphere_grid import SphereGrid

first_rows = pytest.mark.parametrize("first_row", [0, 1])
LMAX, RESOLUTION, CHANNELS = 2, 8, 3


def make() -> SphereGrid:
    return SphereGrid(sphere_grid_matrices(LMAX, LMAX, RESOLUTION)).double()


def features(num: int = 5) -> torch.Tensor:
    return randn(0, num, (LMAX + 1) ** 2, CHANNELS)


def twin(grid: SphereGrid, x: torch.Tensor, first_row: int) -> torch.Tensor:
    """With ordinary operations on all rows at once."""
    samples = torch.einsum("gk,nkc->ngc", grid.to_grid_matrix, x)
    samples = samples * torch.sigmoid(samples)
    return torch.einsum("kg,ngc->nkc", grid.from_grid_matrix[first_row:], samples)


def derivatives(function, x: torch.Tensor) -> list[torch.Tensor]:
    """Value, gradient with and without a graph, second derivative."""
    x = x.clone().requires_grad_(True)
    value = function(x)
    weights = randn(1, *value.shape)
    (plain,) = torch.autograd.grad((value * weights).sum(), x, retain_graph=True)
    (first,) = torch.autograd.grad((value * weights).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first * randn(2, *x.shape)).sum(), x)
    return [value, plain, first, second]


@first_rows
@pytest.mark.parametrize("samples_at_a_time", [1, 2 * RESOLUTION**2 * CHANNELS, 2**20])
def test_pieces_of_any_size_equal_ordinary_operations(first_row, samples_at_a_time, monkeypatch):
    monkeypatch.setattr(sphere_grid, "_SAMPLES_AT_A_TIME", samples_at_a_time)
    grid = make()
    ours = derivatives(lambda x: grid.silu(x, first_row), features())
    wanted = derivatives(lambda x: twin(grid, x, first_row), features())
    for one, other in zip(ours, wanted, strict=True):
        assert largest(one - other) < 1e-13


@first_rows
def test_first_and_second_derivatives_equal_finite_differences(first_row):
    grid, x = make(), features(2).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda y: grid.silu(y, first_row), x)
    assert torch.autograd.gradgradcheck(lambda y: grid.silu(y, first_row), x)


@first_rows
def test_no_rows_give_no_rows(first_row):
    grid = make()
    x = features(0).requires_grad_(True)
    output = grid.silu(x, first_row)
    assert output.shape == (0, (LMAX + 1) ** 2 - first_row, CHANNELS)
    (gradient,) = torch.autograd.grad(output.sum(), x)
    assert gradient.shape == x.shape


def test_sampling_and_projecting_are_each_other_s_inverse():
    grid = make()
    assert largest(grid.from_grid(grid.to_grid(features())) - features()) < 1e-13
    assert largest(grid.from_grid(grid.to_grid(features()), 1) - features()[:, 1:]) < 1e-13


@first_rows
def test_autocast_trains_with_gradients_close_to_float32(first_row):
    grid, x = make().float(), features().float()
    found = []
    for enabled in (False, True):
        leaf = x.clone().requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output = grid.silu(2 * leaf, first_row)
        output.float().square().sum().backward()
        found.append(leaf.grad)
    assert largest(found[1] - found[0]) < 0.05 * largest(found[0])


def test_autocast_accepts_features_in_bfloat16():
    """As the linear layers before it return them."""
    grid, leaf = make().float(), features().float().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        output = grid.silu(leaf.bfloat16())
    output.float().sum().backward()
    assert torch.isfinite(leaf.grad).all()
    assert largest(output.float() - grid.silu(leaf)) < 0.05 * largest(grid.silu(leaf))
