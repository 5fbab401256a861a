"""The S2 activation of recorded passes against the reference implementation."""

from __future__ import annotations

import pytest
import torch
from kernel_inputs import randn, relative_error, sphere_grid

from eqv2_plugin.common.tracing import recording
from eqv2_plugin.kernels import recorded
from eqv2_plugin.kernels.choice import choose_kernels, use_fused_kernels
from eqv2_plugin.kernels.recorded import RecordedKernels
from eqv2_plugin.kernels.reference import REFERENCE


def derivatives(kernels, grid, first_row: int, *tensors: torch.Tensor) -> list[torch.Tensor]:
    """Values, their gradient by the features, and that one's gradients."""
    features, weights, second = tensors
    features, weights = features.requires_grad_(), weights.requires_grad_()
    out = kernels.sampled_silu(features, grid, first_row)
    (slope,) = torch.autograd.grad((out * weights).sum(), features, create_graph=True)
    return [out, slope, *torch.autograd.grad((slope * second).sum(), (features, weights))]


@pytest.mark.parametrize(("lmax", "mmax", "resolution"), [(2, 2, 10), (5, 3, 12)])
@pytest.mark.parametrize("first_row", [0, 1])
def test_values_and_two_derivatives_equal_the_reference(lmax, mmax, resolution, first_row):
    grid = sphere_grid(lmax, mmax, resolution)
    rows = grid.to_grid_matrix.shape[1]
    shapes = (23, rows, 16), (23, rows - first_row, 16), (23, rows, 16)
    given = [2 * randn(*shape) for shape in shapes]
    found = derivatives(RecordedKernels(), grid, first_row, *given)
    exact = derivatives(REFERENCE, grid.double(), first_row, *(t.double() for t in given))
    for one, other in zip(found, exact, strict=True):
        assert relative_error(one, other) < 3e-6


def test_operators_keep_what_torch_expects_of_them():
    factors = sphere_grid(1, 1, 4).factors
    names = ("to_lat", "from_lat", "longitude", "order")
    tables = [torch.from_numpy(getattr(factors, name)) for name in names]
    features, gradient = randn(5, 4, 16), randn(5, 3, 16)
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    for operator, tensors in (
        (recorded._silu, (features,)),
        (recorded._slope, (features, gradient)),
        (recorded._second, (features, gradient, features.flip(0))),
    ):
        given = [tensor.requires_grad_() for tensor in tensors]
        torch.library.opcheck(operator, (*given, *tables, 1), test_utils=checks)


def test_they_are_chosen_where_a_pass_is_recorded_in_float32():
    wigner = torch.zeros(3, 9, 9, requires_grad=True)
    with recording():
        assert isinstance(choose_kernels(wigner, 10, 16), RecordedKernels)
        assert choose_kernels(wigner.double(), 10, 16) is REFERENCE
        with use_fused_kernels(False):
            assert choose_kernels(wigner, 10, 16) is REFERENCE
    assert choose_kernels(wigner, 10, 16) is REFERENCE
