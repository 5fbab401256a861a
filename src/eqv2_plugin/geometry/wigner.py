"""Wigner D matrices of edge frames, as polynomials of the rotation matrix (A.1, A.3).

Degree ``l`` is the stretched part of degree ``l - 1`` times degree 1, so

    D^l = Q_l (D^{l-1} (x) R) Q_l^T,

with ``Q_l`` the orthonormal Clebsch-Gordan map onto degree ``l`` (e3nn's real
Wigner 3j symbols). The entries are polynomials in those of ``R``: no angle is ever
taken, so nothing is singular at a pole and every derivative exists.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from e3nn import o3

from eqv2_plugin.geometry.exact import exact_dtype
from eqv2_plugin.geometry.irreps import EdgeLayout


@cache
def stretched_coupling(degree: int) -> np.ndarray:
    """Orthonormal map from degree ``degree - 1`` times degree 1 onto it, [2l+1, 2l-1, 3]."""
    # A caller may have made another device the default one.
    with torch.device("cpu"):
        coupling = o3.wigner_3j(degree - 1, 1, degree, dtype=torch.float64)
    return (coupling * (2 * degree + 1) ** 0.5).permute(2, 0, 1).contiguous().numpy()


def _rows_needed(degree: int, layout: EdgeLayout) -> int:
    """Largest |m| of a row of degree ``degree`` that some later kept row depends on."""
    return min(degree, layout.mmax + layout.lmax - degree)


def wigner_rows(
    frames: torch.Tensor, layout: EdgeLayout, couplings: list[torch.Tensor]
) -> list[torch.Tensor]:
    """Rows ``|m| <= mmax`` of the Wigner D matrix of every frame, one block per degree.

    ``D^l @ x_l`` rotates a degree-``l`` feature into the edge frame, the transpose back. The
    matrices are exact to rounding of their dtype, also under TF32.

    Args:
        frames: [E, 3, 3] rotation matrices.
        layout: degrees and orders to keep.
        couplings: `stretched_coupling(l)` for ``l = 2..lmax`` as tensors of the dtype
            and device of ``frames``.

    Returns:
        One tensor [E, 2 min(l, mmax) + 1, 2l + 1] per degree, rows of ascending order m.
    """
    exact = exact_dtype(frames.dtype, frames.device.type)
    if exact != frames.dtype:
        rows = wigner_rows(frames.to(exact), layout, [c.to(exact) for c in couplings])
        return [block.to(frames.dtype) for block in rows]
    num_edges = frames.shape[0]
    full = [frames.new_ones(num_edges, 1, 1)]
    if layout.lmax >= 1:
        # e3nn orders the components of degree 1 as (x, y, z): D^1 is R itself.
        full.append(frames)
    for degree in range(2, layout.lmax + 1):
        coupling = couplings[degree - 2]
        below = full[-1]
        kept_below = (below.shape[1] - 1) // 2
        first_row = (degree - 1) - kept_below
        kept = _rows_needed(degree, layout)
        window = slice(degree - kept, degree + kept + 1)
        left = coupling[window, first_row : first_row + below.shape[1]]
        # [E, b, c'] x [b, j, c'] summed in two steps keeps every operand small.
        rotated = torch.einsum("eij,cbj->eibc", frames, coupling)
        rotated = torch.einsum("eab,eibc->eaic", below, rotated)
        full.append(torch.einsum("rai,eaic->erc", left, rotated))
    blocks = []
    for degree, matrix in enumerate(full):
        kept = (matrix.shape[1] - 1) // 2
        wanted = min(degree, layout.mmax)
        blocks.append(matrix[:, kept - wanted : kept + wanted + 1])
    return blocks


def rotate_to_edge_frame(
    features: tuple[torch.Tensor, ...], blocks: list[torch.Tensor], layout: EdgeLayout
) -> torch.Tensor:
    """Rotate node features into the edge frame, side by side along the channels.

    Args:
        features: tensors [E, (lmax+1)^2, C], degree-major (sources and targets, say).
        blocks: from `wigner_rows`.

    Returns:
        [E, layout.size, len(features) C], order-major.
    """
    sizes = [2 * degree + 1 for degree in range(layout.lmax + 1)]
    rotated = []
    for feature in features:
        parts = feature.split(sizes, dim=1)
        rotated.append(
            [torch.bmm(d, part).unbind(1) for d, part in zip(blocks, parts, strict=True)]
        )
    pieces = [
        rows[degree][order + min(degree, layout.mmax)]
        for degree, order in layout.rows
        for rows in rotated
    ]
    stacked = torch.stack(pieces, dim=1)
    return stacked.unflatten(1, (layout.size, len(features))).flatten(2)


def rotate_from_edge_frame(
    features: torch.Tensor, blocks: list[torch.Tensor], layout: EdgeLayout
) -> torch.Tensor:
    """Rotate edge features, [E, layout.size, C] order-major, to the global frame.

    Args:
        blocks: from `wigner_rows`.

    Returns:
        [E, (lmax+1)^2, C], degree-major.
    """
    rows = features.unbind(1)
    rotated = []
    for degree in range(layout.lmax + 1):
        picked = torch.stack([rows[row] for row in layout.rows_within_degree(degree)], dim=1)
        rotated.append(rotate_degree_back(picked, blocks[degree], degree, layout.mmax))
    return torch.cat(rotated, dim=1)


def rotate_degree_back(
    features: torch.Tensor, block: torch.Tensor, degree: int, mmax: int
) -> torch.Tensor:
    """One degree from the edge frame to the global frame.

    Orders ``|m| > mmax`` were discarded; degrees ``l > mmax`` are scaled by
    ``sqrt((2l+1)/(2 mmax+1))`` to keep their magnitude, as the published weights expect.

    Args:
        features: [E, 2 min(l, mmax) + 1, C], orders ascending.
        block: the block of this degree from `wigner_rows`.

    Returns:
        [E, 2l + 1, C].
    """
    if degree > mmax:
        block = block * truncation_scale(degree, mmax)
    return torch.bmm(block.transpose(1, 2), features)


def truncation_scale(degree: int, mmax: int) -> float:
    """Factor that restores the magnitude of a degree whose orders were cut at ``mmax``."""
    return ((2 * degree + 1) / (2 * min(degree, mmax) + 1)) ** 0.5
