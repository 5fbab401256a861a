"""Atoms of a structure that lie at the same place, periodic images included."""

from __future__ import annotations

import itertools

import torch

# Å. fairchem's graph builders take nearer pairs for one and the same atom and drop them.
COINCIDENT = 1e-2
# Å, two and a half times COINCIDENT: rounding of coordinates does not matter.
_BIN = 2.5e-2
_MIXING = 6364136223846793005
_ROWS = 512


def bin_keys(
    fractional: torch.Tensor, spacing: torch.Tensor, pbc: torch.Tensor, batch: torch.Tensor
) -> torch.Tensor:
    """Keys of the small bins of space that atoms lie in: atoms that coincide share one.

    Space is cut into bins in eight ways, shifted by half a bin along each direction, so that two
    atoms within half a bin share one of them. In periodic directions the bins close a circle.

    Args:
        fractional: [N, 3] coordinates in cells with a volume.
        spacing: [N, 3] Å between the planes of those cells.
        pbc: [N, 3].
        batch: [N].

    Returns:
        [8, N], one row per way of cutting.
    """
    numbers = torch.floor(spacing / _BIN).clamp(min=1)
    wrapped = torch.where(pbc, fractional - torch.floor(fractional), fractional)
    scaled = wrapped * torch.where(pbc, numbers, spacing / _BIN)
    halves = scaled.new_tensor(list(itertools.product((0.0, 0.5), repeat=3)))
    bins = torch.floor(scaled + halves.unsqueeze(1))
    bins = torch.where(pbc, torch.remainder(bins, numbers), bins).long()
    keys = batch.expand(8, -1)
    for axis in range(3):
        # Overflow wraps round; two bins with one key would only cost the exact test below.
        keys = keys * _MIXING + bins[:, :, axis]
    return keys


@torch.no_grad()
def may_coincide(keys: torch.Tensor) -> torch.Tensor:
    """Whether any two atoms share a bin: a scalar on the device; false if none coincide."""
    ordered = keys.sort(dim=1).values
    return (ordered[:, 1:] == ordered[:, :-1]).any()


def coincident_pair(
    keys: torch.Tensor,
    pos: torch.Tensor,
    fractional: torch.Tensor,
    cell: torch.Tensor,
    pbc: torch.Tensor,
    batch: torch.Tensor,
) -> tuple[int, int, float] | None:
    """Two atoms within 0.01 Å, and their distance in Å, among those that share a bin."""
    ordered, order = keys.sort(dim=1)
    same = ordered[:, 1:] == ordered[:, :-1]
    among = torch.unique(torch.cat((order[:, 1:][same], order[:, :-1][same])))
    for rows in among.split(_ROWS):
        difference = fractional[rows].unsqueeze(1) - fractional[among]
        images = torch.round(difference) * pbc[rows].unsqueeze(1)
        vectors = pos[rows].unsqueeze(1) - pos[among]
        vectors = vectors - torch.einsum("rni,rij->rnj", images, cell[rows])
        distances = torch.linalg.vector_norm(vectors, dim=2)
        close = (distances <= COINCIDENT) & (batch[rows].unsqueeze(1) == batch[among])
        found = (close & (rows.unsqueeze(1) < among)).nonzero()
        if len(found):
            i, j = found[0].tolist()
            return int(rows[i]), int(among[j]), float(distances[i, j])
    return None
