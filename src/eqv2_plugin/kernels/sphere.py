"""SiLU on the samples of a feature on the sphere, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from eqv2_plugin.kernels.threads import in_parts

# Rows of features that are worth a thread.
_ROWS = 16


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


def sampled_silu(features: torch.Tensor, factors: GridFactors, first_row: int) -> torch.Tensor:
    """``from_grid[first_row:] @ silu(to_grid @ x)``, by Numba on a CPU.

    Args:
        features: [N, K, C]; float32, C a multiple of 16.
        factors: of the two matrices.
        first_row: rows before it are left out.

    Returns:
        [N, K - first_row, C], of the dtype of ``features``; differentiable once.
    """
    return _SampledSiLU.apply(features, factors, first_row)


class _SampledSiLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features, factors, first_row):
        from eqv2_plugin.kernels.cpu_sphere import forward_kernel

        features = features.contiguous()
        ctx.save_for_backward(features)
        ctx.factors, ctx.first_row = factors, first_row
        count, rows, channels = features.shape
        out = features.new_empty(count, rows - first_row, channels)
        kernel = forward_kernel(*_sizes(features, factors))
        given, filled = features.detach().numpy(), out.numpy()
        tables = (factors.to_lat, factors.from_lat, factors.longitude, factors.order, first_row)
        in_parts(lambda begin, end: kernel(begin, end, given, *tables, filled), count, _ROWS)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        from eqv2_plugin.kernels.cpu_sphere import backward_kernel

        (features,) = ctx.saved_tensors
        factors = ctx.factors
        out = torch.empty_like(features)
        kernel = backward_kernel(*_sizes(features, factors))
        given = features.detach().numpy(), gradient.contiguous().numpy()
        tables = (factors.to_lat, factors.from_lat, factors.longitude, factors.order)
        first, filled = ctx.first_row, out.numpy()

        def part(begin: int, end: int) -> None:
            kernel(begin, end, *given, *tables, first, filled)

        in_parts(part, len(features), _ROWS)
        return out, None, None


def _sizes(features: torch.Tensor, factors: GridFactors) -> tuple[int, int, int, int, int]:
    latitudes, longitudes = len(factors.to_lat), len(factors.longitude)
    return features.shape[1], features.shape[2], latitudes, longitudes, factors.mmax
