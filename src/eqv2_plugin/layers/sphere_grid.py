"""Functions on the sphere: samples of a feature, SiLU on them, and back (A.4)."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from eqv2_plugin.common.tracing import is_traced
from eqv2_plugin.kernels.linear import linear, product
from eqv2_plugin.kernels.tables import factorise
from eqv2_plugin.layers.constants import ExactConstants

# Samples are ten times larger than the features. About this many at a time stay in a
# core's cache; larger fresh tensors cost more in page faults than the arithmetic does.
_SAMPLES_AT_A_TIME = 2**20


class SphereGrid(ExactConstants):
    """Conversion of features to samples on the sphere and back, G and G^-1 of the paper.

    Args:
        matrices: ``to_grid`` [G, K] and ``from_grid`` [K, G], K the rows of the features.
        orders: order m of every row, for fused kernels; none without.
        longitudes: number of the grid's longitudes, for fused kernels.
    """

    def __init__(
        self,
        matrices: tuple[np.ndarray, np.ndarray],
        orders: list[int] | None = None,
        longitudes: int = 0,
    ) -> None:
        super().__init__()
        self.factors = factorise(*matrices, orders, longitudes) if orders else None
        self.register_constant("to_grid_matrix", matrices[0])
        self.register_constant("from_grid_matrix", matrices[1])

    def to_grid(self, features: torch.Tensor) -> torch.Tensor:
        """[N, K, C] -> [N, G, C]."""
        return torch.matmul(self.to_grid_matrix, features)

    def from_grid(self, samples: torch.Tensor, first_row: int = 0) -> torch.Tensor:
        """[N, G, C] -> [N, K - first_row, C]."""
        return torch.matmul(self.from_grid_matrix[first_row:], samples)

    def silu(self, features: torch.Tensor, first_row: int = 0) -> torch.Tensor:
        """SiLU of every sample by torch operators, [N, K, C] -> [N, K - first_row, C].

        Args:
            features: coefficients.
            first_row: rows before it are left out.
        """
        from_grid = self.from_grid_matrix[first_row:]
        if features.device.type != "cpu" or is_traced():
            samples = nn.functional.silu(torch.matmul(self.to_grid_matrix, features))
            return torch.matmul(from_grid, samples)
        # The backward pass runs outside autocast, so the forward pass must, too.
        with torch.autocast("cpu", enabled=False):
            features = features.to(from_grid.dtype)
            return _SampledSiLU.apply(features, self.to_grid_matrix, from_grid)


class _SampledSiLU(torch.autograd.Function):
    """``from_grid @ silu(to_grid @ x)``, a few rows at a time, samples never kept.

    The first and second derivatives compute the samples again.
    """

    @staticmethod
    def forward(ctx, features, to_grid, from_grid):
        ctx.save_for_backward(features, to_grid, from_grid)
        out = features.new_empty(features.shape[0], from_grid.shape[0], features.shape[2])
        for rows in _pieces(features, to_grid):
            samples = product(_rows_last(features[rows]), to_grid)
            samples = nn.functional.silu(samples, inplace=True)
            out[rows] = _rows_first(product(samples, from_grid), features.shape[2])
        return out

    @staticmethod
    def backward(ctx, gradient):
        features, to_grid, from_grid = ctx.saved_tensors
        return _SampledSiLUGradient.apply(features, gradient, to_grid, from_grid), None, None


class _SampledSiLUGradient(torch.autograd.Function):
    """``to_grid^T @ (silu'(to_grid @ x) * (from_grid^T @ y))``, likewise.

    Conservative training differentiates it once more; beyond that ordinary operations serve.
    """

    @staticmethod
    def forward(ctx, features, gradient, to_grid, from_grid):
        ctx.save_for_backward(features, gradient, to_grid, from_grid)
        out = torch.empty_like(features)
        for rows in _pieces(features, to_grid):
            samples = product(_rows_last(features[rows]), to_grid)
            through = product(_rows_last(gradient[rows]), from_grid.T)
            through = torch.ops.aten.silu_backward(through, samples)
            out[rows] = _rows_first(product(through, to_grid.T), features.shape[2])
        return out

    @staticmethod
    def backward(ctx, second):
        features, gradient, to_grid, from_grid = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_second(features, gradient, second, to_grid, from_grid), None, None
        of_features, of_gradient = torch.empty_like(features), torch.empty_like(gradient)
        for rows in _pieces(features, to_grid):
            of_features[rows], of_gradient[rows] = _second(
                features[rows], gradient[rows], second[rows], to_grid, from_grid
            )
        return of_features, of_gradient, None, None


def _second(features, gradient, second, to_grid, from_grid):
    """Gradients of ``sum(second * _SampledSiLUGradient)`` by features and gradient."""
    samples = linear(_rows_last(features), to_grid)
    through = linear(_rows_last(gradient), from_grid.T)
    direction = linear(_rows_last(second), to_grid)
    sigmoid = torch.sigmoid(samples)
    slope = sigmoid * (1 - sigmoid)
    curvature = slope * (2 + samples * (1 - 2 * sigmoid))
    of_gradient = linear(direction * (sigmoid + samples * slope), from_grid)
    of_features = linear(direction * through * curvature, to_grid.T)
    channels = features.shape[2]
    return _rows_first(of_features, channels), _rows_first(of_gradient, channels)


def _rows_last(features: torch.Tensor) -> torch.Tensor:
    """[N, K, C] -> [N C, K]: one matrix product transforms all of it."""
    return features.transpose(1, 2).reshape(-1, features.shape[1])


def _rows_first(features: torch.Tensor, channels: int) -> torch.Tensor:
    """[N C, K] -> [N, K, C]."""
    return features.view(-1, channels, features.shape[1]).transpose(1, 2)


def _pieces(features: torch.Tensor, to_grid: torch.Tensor) -> list[slice]:
    step = max(1, _SAMPLES_AT_A_TIME // max(to_grid.shape[0] * features.shape[2], 1))
    return [slice(start, start + step) for start in range(0, features.shape[0], step)]
