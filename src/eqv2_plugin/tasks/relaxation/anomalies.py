"""Relaxed structures that no calculation is meant to end in, whatever the optimizer says."""

from __future__ import annotations

from itertools import product

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list

TOO_NEAR, LEFT = "atoms_too_near", "atoms_left"
ANOMALIES = (TOO_NEAR, LEFT)
# In units of the sum of the covalent radii. The nearest neighbours of 20,000 OC20, OC22 and
# inorganic frames are at 0.46 and more, but for crystals at the highest pressures.
NEAR = 0.5
# Å. What has no cell vector in a direction is taken to be at least that large.
_SMALLEST = 10.0


def find_anomalies(initial: Atoms, relaxed: Atoms) -> dict[str, str]:
    """What is wrong with a structure at its end, {kind: sentence}.

    Kinds are `TOO_NEAR`: two atoms, periodic images included, nearer than half the sum of their
    covalent radii; `LEFT`: an atom that moved by more than the diagonal of the cell (where a
    vector is missing, of the box around the atoms, or 10 Å). Positions are finite and not moved
    into the cell.
    """
    found = {TOO_NEAR: _too_near(relaxed), LEFT: _left(initial, relaxed)}
    return {kind: text for kind, text in found.items() if text}


def _too_near(atoms: Atoms) -> str:
    radii = covalent_radii[atoms.numbers]
    with np.errstate(invalid="ignore"):  # an atom may be 1e30 Å away
        first, second, distances = neighbor_list("ijd", atoms, NEAR * radii)
    if not len(distances):
        return ""
    ratios = distances / (radii[first] + radii[second])
    nearest = int(np.argmin(ratios))
    pair = [int(first[nearest]), int(second[nearest])]
    symbols = atoms.symbols
    names = [f"{symbols[atom]} (atom {atom})" for atom in sorted(pair)]
    other = "its periodic image" if pair[0] == pair[1] else names[1]
    return (
        f"{names[0]} and {other} are {distances[nearest]:.3f} Å apart, "
        f"{ratios[nearest]:.2f} of their covalent radii"
    )


def _left(initial: Atoms, relaxed: Atoms) -> str:
    moved = np.linalg.norm(relaxed.positions - initial.positions, axis=1)
    size = _diagonal(initial)
    gone = np.flatnonzero(moved > size)
    if not len(gone):
        return ""
    farthest = int(np.argmax(moved))
    others = f", and {len(gone) - 1} other atom(s) too" if len(gone) > 1 else ""
    return (
        f"{relaxed.symbols[farthest]} (atom {farthest}) moved by {moved[farthest]:.4g} Å{others}: "
        f"farther than the cell's diagonal, {size:.4g} Å"
    )


def _diagonal(atoms: Atoms) -> float:
    """Å, the longest of the cell; where a vector is missing, of the box around the atoms, too."""
    signs = np.array(list(product((1, -1), repeat=3)))
    longest = float(np.linalg.norm(signs @ np.array(atoms.cell), axis=1).max())
    if atoms.cell.rank == 3:
        return longest
    return max(longest, float(np.linalg.norm(np.ptp(atoms.positions, axis=0))), _SMALLEST)
