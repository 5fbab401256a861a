"""Which atoms are fixed: the one rule that training, checks, predictions and scores ask."""

from __future__ import annotations

import copy

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian, FixedLine, FixedPlane, FixScaled

PARTLY_FIXED = "atoms are held in one or two directions; they count as free"

# Constraints that hold atoms in directions; others (bond lengths, symmetry) fix no atom.
_DIRECTIONAL = (FixCartesian, FixScaled, FixedPlane, FixedLine)
# Sine of the angle below which held directions count as lying in one plane.
_PARALLEL = 1e-3


def fixed_mask(atoms: Atoms) -> np.ndarray:
    """[atoms] True for atoms that their constraints hold in all three directions.

    ``FixAtoms`` holds in all three; of ``FixCartesian``, ``FixScaled``, ``FixedPlane`` and
    ``FixedLine`` the held directions of an atom add up. Atoms held in fewer are free.
    """
    return _held_directions(atoms) == 3


def partly_fixed(atoms: Atoms) -> int:
    """Number of atoms that are held in one or two directions; they count as free."""
    if all(isinstance(constraint, FixAtoms) for constraint in atoms.constraints):
        return 0
    held = _held_directions(atoms)
    return int(((held > 0) & (held < 3)).sum())


def held_along_axes(atoms: Atoms) -> np.ndarray:
    """[atoms, 3] True where an atom is fixed, or held in a Cartesian direction alone.

    Other held directions (of cells, planes and lines) have no place in such a table, unless they
    fix the atom.
    """
    held = np.repeat(fixed_mask(atoms)[:, None], 3, 1)
    for constraint in atoms.constraints:
        if isinstance(constraint, FixCartesian):
            held[constraint.index] |= constraint.mask
    return held


def use_fix_atoms(atoms: Atoms) -> None:
    """Hold fixed atoms by ``FixAtoms``, the only constraint that fairchem counts; in place.

    Atoms that are held in fewer directions keep their constraints; what holds nothing besides
    is dropped. Atoms move in a relaxation as they would have.
    """
    if all(isinstance(constraint, FixAtoms) for constraint in atoms.constraints):
        return
    fixed = fixed_mask(atoms)
    kept = [FixAtoms(mask=fixed)] if fixed.any() else []
    for constraint in atoms.constraints:
        if isinstance(constraint, _DIRECTIONAL):
            index = np.arange(len(atoms))[constraint.index]
            rest = index[~fixed[index]]
            if not len(rest) or not getattr(constraint, "mask", np.ones(1, bool)).any():
                continue
            constraint = copy.copy(constraint)
            constraint.index = rest
        elif isinstance(constraint, FixAtoms):
            continue
        kept.append(constraint)
    atoms.set_constraint(kept)


def _held_directions(atoms: Atoms) -> np.ndarray:
    """[atoms] in how many independent directions an atom is held, 0 to 3."""
    count = len(atoms)
    whole = np.zeros(count, bool)
    along_axes, along_cell = np.zeros((2, count, 3), bool)
    normals: dict[int, list[np.ndarray]] = {}
    for constraint in atoms.constraints:
        if isinstance(constraint, FixAtoms):
            whole[constraint.index] = True
        elif isinstance(constraint, FixCartesian):
            along_axes[constraint.index] |= constraint.mask
        elif isinstance(constraint, FixScaled):
            along_cell[constraint.index] |= constraint.mask
        elif isinstance(constraint, (FixedPlane, FixedLine)):
            held = _plane_and_line(constraint)
            for i in np.arange(count)[constraint.index]:
                normals.setdefault(int(i), []).extend(held)
    whole |= along_axes.all(1) | along_cell.all(1)
    directions = np.where(whole, 3, along_axes.sum(1) + along_cell.sum(1))
    mixed = along_axes.any(1) & along_cell.any(1)
    mixed[list(normals)] = True
    if (mixed & ~whole).any():
        # A fractional coordinate stays if nothing moves along its reciprocal vector.
        reciprocal = np.linalg.pinv(np.asarray(atoms.cell.complete())).T
        for i in np.flatnonzero(mixed & ~whole):
            held = [*np.eye(3)[along_axes[i]], *reciprocal[along_cell[i]], *normals.get(int(i), [])]
            unit = [vector / np.linalg.norm(vector) for vector in held]
            directions[i] = np.linalg.matrix_rank(np.array(unit), tol=_PARALLEL)
    return directions


def _plane_and_line(constraint: FixedPlane | FixedLine) -> list[np.ndarray]:
    """Unit vectors along which nothing moves."""
    if isinstance(constraint, FixedPlane):
        return [constraint.dir]
    # The last two right singular vectors span what is perpendicular to the line.
    return list(np.linalg.svd(constraint.dir[None])[2][1:])
