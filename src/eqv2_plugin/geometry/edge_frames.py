"""Edge frames: a rotation that takes each edge to the polar axis (section 2.3, A.3).

In the conventions of e3nn, and of the published weights, the polar axis is y, so
the frame ``R`` of an edge vector ``v`` satisfies ``R v = (0, |v|, 0)``.

No frame can be continuous over the whole sphere (hairy ball theorem), and the
model needs no particular one: a roll about the edge changes its outputs only by
the discretisation error of the S2 grids, and with gate activation by nothing. We
use two smooth charts. On the first, ``R`` is the smallest rotation that takes the
edge to +y. Near -y that rotation changes ever faster, so edges with ``v_y / |v| <
-0.61803`` first undergo a half turn about x. Both charts are analytic on a
neighbourhood of their region, so derivatives of every order exist and stay bounded
through both poles. The border is an irrational latitude, away from the directions
that crystals and slabs favour.
"""

from __future__ import annotations

import torch

_CHART_BORDER = -0.6180339887498949


def edge_frames(edge_vectors: torch.Tensor) -> torch.Tensor:
    """Deterministic rotation matrices with ``R v = (0, |v|, 0)``.

    Args:
        edge_vectors: [E, 3] in Å, none of length zero.

    Returns:
        [E, 3, 3] rotation matrices (determinant +1) of the same dtype.
    """
    direction = edge_vectors / torch.linalg.vector_norm(edge_vectors, dim=-1, keepdim=True)
    x, y, z = direction.unbind(-1)
    sign = torch.where(y < _CHART_BORDER, -1.0, 1.0).to(y.dtype)
    # The half turn about x sends (x, y, z) to (x, -y, -z).
    y, z = sign * y, sign * z
    scale = 1.0 / (1.0 + y)
    rows = (
        1.0 - x * x * scale, -x, -x * z * scale,
        x, y, z,
        -x * z * scale, -z, 1.0 - z * z * scale,
    )  # fmt: skip
    frames = torch.stack(rows, dim=-1).view(-1, 3, 3)
    ones = torch.ones_like(sign)
    return frames * torch.stack((ones, sign, sign), dim=-1).unsqueeze(-2)
