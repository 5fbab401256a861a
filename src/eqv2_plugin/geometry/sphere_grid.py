"""Grids on the sphere for the S2 activation (EquiformerV2, section A.4).

A feature is sampled on a latitude-longitude grid around the polar axis y, a function
acts on every sample, and the samples are projected back. e3nn supplies the harmonics
and quadrature ("component" normalisation); this file only arranges them as one dense
matrix per direction.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from e3nn.o3 import FromS2Grid, ToS2Grid

from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.geometry.wigner import truncation_scale


def grid_shape(lmax: int, mmax: int, resolution: int | None) -> tuple[int, int]:
    """Numbers of latitudes and longitudes.

    Args:
        resolution: the paper's R for both; None takes the smallest exact e3nn grid
            (the longitudes then follow ``mmax``).

    Raises:
        ValueError: fewer samples than the degree can be represented with.
    """
    if resolution is None:
        longitudes = 2 * mmax + 3 if mmax == lmax else 2 * mmax + 1
        return 2 * (lmax + 1), longitudes
    needed = 2 * (lmax + 1)
    if resolution < needed:
        raise ValueError(
            f"grid_resolution={resolution} is too coarse for lmax={lmax}: a band-limited "
            f"function of that degree needs at least {needed} latitudes "
            "(the paper uses 18 up to lmax=6 and 20 for lmax=8)"
        )
    if resolution % 2:
        raise ValueError(f"grid_resolution must be even, got {resolution}")
    return resolution, resolution


@cache
def sphere_grid_matrices(
    lmax: int, mmax: int, resolution: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Matrices between degree-major features of orders ``|m| <= mmax`` and grid samples.

    Returns:
        ``to_grid`` [G, K] and ``from_grid`` [K, G] in float64, where the K rows are
        ordered by degree, then by ascending order m.
    """
    latitudes, longitudes = grid_shape(lmax, mmax, resolution)
    # e3nn computes its quadrature weights in the default dtype, whatever dtype is asked for.
    default_dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("cpu"):
            to_module = ToS2Grid(lmax, (latitudes, longitudes), normalization="component")
            from_module = FromS2Grid((latitudes, longitudes), lmax, normalization="component")
    finally:
        torch.set_default_dtype(default_dtype)
    to_grid = np.einsum("mbi,am->bai", to_module.shb.numpy(), to_module.sha.numpy())
    from_grid = np.einsum("am,mbi->bai", from_module.sha.numpy(), from_module.shb.numpy())
    pairs = _degree_major(lmax, mmax)
    keep = [degree * degree + degree + order for degree, order in pairs]
    scale = [truncation_scale(degree, mmax) for degree, _ in pairs]
    num_points = latitudes * longitudes
    to_grid = to_grid.reshape(num_points, -1)[:, keep] * scale
    from_grid = (from_grid.reshape(num_points, -1)[:, keep] * scale).T
    return np.ascontiguousarray(to_grid), np.ascontiguousarray(from_grid)


def edge_grid_matrices(layout: EdgeLayout, resolution: int | None) -> tuple[np.ndarray, np.ndarray]:
    """`sphere_grid_matrices` with rows in the order-major layout of edge features."""
    to_grid, from_grid = sphere_grid_matrices(layout.lmax, layout.mmax, resolution)
    pairs = _degree_major(layout.lmax, layout.mmax)
    columns = [pairs.index(pair) for pair in layout.rows]
    return np.ascontiguousarray(to_grid[:, columns]), np.ascontiguousarray(from_grid[columns])


def _degree_major(lmax: int, mmax: int) -> list[tuple[int, int]]:
    """(degree, order) of every row with ``|order| <= mmax``, orders ascending."""
    return [(l, m) for l in range(lmax + 1) for m in range(-l, l + 1) if abs(m) <= mmax]
