"""Triton's S2 activation against its plain twin; run by test_triton.py."""

from __future__ import annotations

import pytest
import torch
from kernel_inputs import relative_error, strided
from test_sphere_kernel import grid, plain
from triton_device import DEVICE, assert_one_rounding, on_device

from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.kernels.triton_sphere import SampledSiLU

# The coarsest grid of each degree, as the interpreter is slow.
GRIDS = [
    (1, 0, 4), (1, 1, 4), (2, 1, 6), (2, 2, 6), (3, 2, 8), (3, 3, 8), (4, 2, 10), (5, 3, 12),
    (6, 2, 14), (7, 2, 16), (8, 2, 18),
]  # fmt: skip


def given(lmax, mmax, count, channels):
    generator = torch.Generator().manual_seed(lmax)
    return 2 * torch.randn(count, EdgeLayout(lmax, mmax).size, channels, generator=generator)


def run(features, factors, first_row, gradient=None):
    (features,) = on_device(features)
    out = SampledSiLU.apply(features, factors, first_row)
    gradient = torch.randn(out.shape) if gradient is None else gradient
    (of_features,) = torch.autograd.grad(out, features, gradient.to(out))
    return out.detach().cpu(), of_features.cpu(), gradient


@pytest.mark.parametrize(
    ("lmax", "mmax", "resolution", "first_row"),
    [(*sizes, 1) for sizes in GRIDS] + [(*sizes, 0) for sizes in GRIDS[:4]],
)
def test_values_and_gradients_equal_the_plain_twin(lmax, mmax, resolution, first_row):
    matrices, factors = grid(lmax, mmax, resolution)
    features = given(lmax, mmax, count=3, channels=5)
    out, of_features, gradient = run(features, factors, first_row)
    exact = features.double().requires_grad_()
    wanted = plain(exact, matrices, first_row)
    assert relative_error(out, wanted) < 1e-6
    (theirs,) = torch.autograd.grad(wanted, exact, gradient.double())
    assert relative_error(of_features, theirs) < 1e-6


def test_more_edges_than_one_program_takes():
    matrices, factors = grid(2, 1, 6)
    features = given(2, 1, count=15, channels=9)
    out, of_features, gradient = run(features, factors, 1)
    exact = features.double().requires_grad_()
    wanted = plain(exact, matrices, 1)
    assert relative_error(out, wanted) < 1e-6
    (theirs,) = torch.autograd.grad(wanted, exact, gradient.double())
    assert relative_error(of_features, theirs) < 1e-6


@pytest.mark.parametrize("size", [0.0, 1e-20, 30.0, 1e3, 1e30])
def test_extreme_samples_stay_exact(size):
    matrices, factors = grid(2, 2, 6)
    features = size * given(2, 2, count=4, channels=5)
    out, of_features, _ = run(features, factors, 0)
    exact = features.double().requires_grad_()
    wanted = plain(exact, matrices, 0)
    assert torch.isfinite(out).all()
    assert torch.isfinite(of_features).all()
    if size == 0.0:
        assert not out.any()
    else:
        assert relative_error(out, wanted) < 1e-6


def test_strided_features_give_the_same_bits():
    _, factors = grid(2, 2, 6)
    results = []
    for form in (torch.clone, strided):
        features = form(given(2, 2, count=4, channels=5).to(DEVICE)).requires_grad_()
        assert features.is_contiguous() == (form is torch.clone)
        out = SampledSiLU.apply(features, factors, 1)
        results.append((out, *torch.autograd.grad(out, features, form(out.detach().square()))))
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_bfloat16_is_rounded_only_at_the_end():
    _, factors = grid(2, 2, 6)
    short = given(2, 2, count=4, channels=5).bfloat16()
    out, of_features, gradient = run(short, factors, 1)
    wide, of_wide, _ = run(short.float(), factors, 1, gradient.bfloat16().float())
    assert out.dtype == of_features.dtype == torch.bfloat16
    assert_one_rounding(out, wide)
    assert_one_rounding(of_features, of_wide)


def test_no_edges_give_an_empty_result():
    _, factors = grid(2, 2, 6)
    out, of_features, _ = run(torch.zeros(0, 9, 5), factors, 1)
    assert out.shape == (0, 8, 5)
    assert of_features.shape == (0, 9, 5)
