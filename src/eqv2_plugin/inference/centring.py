"""Structures are brought to the origin before their positions are rounded to float32."""

from __future__ import annotations

import numpy as np
from ase import Atoms

# Å. Float32 keeps 1e-5 Å up to here. Nearer structures stay, so that their numbers are those of
# fairchem's calculator to the last bit.
_FAR = 100.0


def near_origin(atoms: Atoms) -> Atoms:
    """The atoms; a copy, moved along directions that are not periodic, if they lie far out.

    Only whole numbers of Å are taken off, in float64, so that distances stay as they are.
    """
    positions = atoms.positions
    if atoms.pbc.all() or not len(atoms) or not np.abs(positions).max() > _FAR:
        return atoms
    middle = (positions.max(0) + positions.min(0)) / 2
    periodic = np.asarray(atoms.cell)[atoms.pbc]
    if len(periodic):
        # What is normal to all periodic vectors.
        middle = middle - np.linalg.pinv(periodic) @ periodic @ middle
    offset = np.rint(middle)
    if not np.isfinite(offset).all() or not offset.any():
        return atoms
    moved = atoms.copy()
    moved.calc = atoms.calc
    moved.positions = positions - (offset if not len(periodic) else middle)
    return moved
