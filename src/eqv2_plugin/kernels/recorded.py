"""Kernels of recorded forward passes on a CPU: operators of torch, differentiable twice.

What torch compiles of a record fuses pointwise operators, but not these with the products around
them, so that the samples of the S2 activation, ten times larger than the features, would go through
memory many times. Here the activation and its derivatives are operators on Numba's loops, which
torch calls as they are.
"""

from __future__ import annotations

import torch

from eqv2_plugin.kernels.interface import Grid
from eqv2_plugin.kernels.numba_kernels import NumbaKernels
from eqv2_plugin.kernels.reference import ReferenceKernels
from eqv2_plugin.kernels.tables import GridFactors

_GRID = "Tensor to_lat, Tensor from_lat, Tensor longitude, Tensor order, int first_row"
_NUMBA = NumbaKernels()


class RecordedKernels(ReferenceKernels):
    """float32 on a CPU, channels a multiple of 16; the rest is the reference implementation."""

    def sampled_silu(self, features: torch.Tensor, grid: Grid, first_row: int) -> torch.Tensor:
        factors = grid.factors
        if factors is None or features.shape[2] % 16 or features.dtype != torch.float32:
            return super().sampled_silu(features, grid, first_row)
        names = "to_lat", "from_lat", "longitude", "order"
        tables = (torch.from_numpy(getattr(factors, name)) for name in names)
        return _silu(features, *tables, first_row)


@torch.library.custom_op(
    "eqv2_plugin::sampled_silu", mutates_args=(), schema=f"(Tensor features, {_GRID}) -> Tensor"
)
def _silu(features, *grid):
    factors, first_row = _factors(*grid)
    return _NUMBA._silu(factors, first_row, features.contiguous())


@torch.library.custom_op(
    "eqv2_plugin::sampled_silu_slope",
    mutates_args=(),
    schema=f"(Tensor features, Tensor gradient, {_GRID}) -> Tensor",
)
def _slope(features, gradient, *grid):
    factors, first_row = _factors(*grid)
    tensors = gradient.contiguous(), (True,), features.contiguous()
    return _NUMBA._silu_backward(factors, first_row, *tensors)[0]


@torch.library.custom_op(
    "eqv2_plugin::sampled_silu_second",
    mutates_args=(),
    schema=f"(Tensor features, Tensor gradient, Tensor second, {_GRID}) -> (Tensor, Tensor)",
)
def _second(features, gradient, second, *grid):
    tensors = (tensor.contiguous() for tensor in (features, gradient, second))
    return _NUMBA.silu_second(*_factors(*grid), *tensors)


@_silu.register_fake
def _(features, *grid):
    count, rows, channels = features.shape
    return features.new_empty(count, rows - grid[-1], channels)


@_slope.register_fake
def _(features, gradient, *grid):
    return features.new_empty(features.shape)


@_second.register_fake
def _(features, gradient, second, *grid):
    return features.new_empty(features.shape), gradient.new_empty(gradient.shape)


def _keep(ctx, inputs, output) -> None:
    """Tensors for the derivative, and the tables of the grid."""
    *tensors, ctx.first_row = inputs
    ctx.save_for_backward(*tensors)


def _silu_derivative(ctx, gradient):
    features, *tables = ctx.saved_tensors
    return _slope(features, gradient, *tables, ctx.first_row), *_NO_GRADIENTS


def _slope_derivative(ctx, second):
    features, gradient, *tables = ctx.saved_tensors
    return *_second(features, gradient, second, *tables, ctx.first_row), *_NO_GRADIENTS


# By the tables of a grid and the first row.
_NO_GRADIENTS = (None,) * 5
_silu.register_autograd(_silu_derivative, setup_context=_keep)
_slope.register_autograd(_slope_derivative, setup_context=_keep)


def _factors(*grid) -> tuple[GridFactors, int]:
    *tables, first_row = grid
    return GridFactors(*(table.numpy() for table in tables)), first_row
