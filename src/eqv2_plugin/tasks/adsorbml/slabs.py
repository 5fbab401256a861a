"""From the atoms of a file to a slab as OC20 has them: tagged, tiled, its lower layers fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.io import read

from eqv2_plugin.data.fixed_atoms import PARTLY_FIXED, fixed_mask, partly_fixed, use_fix_atoms
from eqv2_plugin.tasks.adsorbml.exposure import reachable_from_above

MIN_WIDTH = 8.0  # Å along a and b; fairchem-data-oc asserts it
MIN_VACUUM = 10.0  # Å; adsorbates are up to 5 Å tall and must not see the slab's next image
# Å. An atom this near to the cell's border along c lies on the side of the others: files round.
BORDER = 1e-2


@dataclass(frozen=True)
class PreparedSlab:
    """A slab for placements."""

    atoms: Atoms  # tags 1 (surface) and 0 (below), tag-0 atoms fixed, periodic, no calculator
    repeats: tuple[int, int]  # times that the given atoms occur along a and b
    notes: tuple[str, ...]  # what was done to the given atoms


def read_structure(path: Path) -> Atoms:
    """The last structure in a file that ASE reads; raises ValueError for any other."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        atoms = read(path)
    except Exception as error:  # each format of ASE has its own
        raise ValueError(f"{path} cannot be read as a structure: {error}") from error
    assert isinstance(atoms, Atoms)
    return atoms


def stems(paths: Sequence[Path]) -> list[str]:
    """A name for each slab: its file name without ending, or its folder's for VASP's files."""
    fixed = {"POSCAR", "CONTCAR", "OUTCAR", "vasprun"}
    return [path.absolute().parent.name if path.stem in fixed else path.stem for path in paths]


def prepare_slab(given: Atoms, name: str, bulk: Atoms | None = None) -> PreparedSlab:
    """Check the geometry; tag surface atoms, tile and fix where the file does not say how.

    Args:
        given: slab with its surface towards +c, and vacuum.
        name: for messages.
        bulk: the bulk it was cut from. Surface atoms are then found by coordination (by
            fairchem-data-oc), otherwise they are those within 2 Å of the highest one, and those
            of the upper half that lie open to the vacuum (terraces, floors of holes).

    Raises:
        ValueError: no slab, a slab without vacuum, or one without atoms below the surface.
    """
    from fairchem.data.oc.core.slab import tag_surface_atoms, tile_atoms

    atoms = _within_border(given)
    _check_geometry(atoms, name)
    atoms.calc = None
    atoms.info = {}
    atoms.pbc = True
    notes = []
    tags = set(atoms.get_tags().tolist())
    if tags == {0, 1, 2}:
        raise ValueError(f"{name} has atoms with tag 2, which means adsorbate: give the clean slab")
    if tags != {0, 1}:
        atoms = tag_surface_atoms(atoms, bulk)
        how = "coordination lower than in the bulk"
        if bulk is None:
            atoms.set_tags(np.where(_open_upper_half(atoms), 1, atoms.get_tags()))
            how = "within 2 Å of the highest one, or open to the vacuum"
        found = int((atoms.get_tags() == 1).sum())
        notes.append(f"surface determined: {found} of {len(atoms)} atoms ({how})")
    if set(atoms.get_tags().tolist()) != {0, 1}:
        raise ValueError(
            f"{name}: all atoms belong to the surface. A slab needs layers below, which are held "
            "fixed: cut a thicker one, or set tags (1 surface, 0 below)"
        )
    before, lengths = len(atoms), atoms.cell.lengths()
    atoms = tile_atoms(atoms, MIN_WIDTH)
    if len(atoms) > before:
        notes.append(f"tiled to {len(atoms)} atoms, to be {MIN_WIDTH:g} Å wide")
    use_fix_atoms(atoms)
    if partly := partly_fixed(atoms):
        notes.append(f"{partly} {PARTLY_FIXED}")
    if not fixed_mask(atoms).any():
        below = atoms.get_tags() == 0
        atoms.set_constraint([*atoms.constraints, FixAtoms(mask=below)])
        notes.append(f"{int(below.sum())} atoms below the surface fixed")
    a, b = np.rint(atoms.cell.lengths()[:2] / lengths[:2]).astype(int).tolist()
    return PreparedSlab(atoms, (a, b), tuple(notes))


def prepare_relaxed(prepared: PreparedSlab, relaxed: Atoms, name: str) -> Atoms:
    """The relaxed form of a prepared slab: its positions with the same tags and constraints."""
    tiled = _within_border(relaxed).repeat((*prepared.repeats, 1))
    same = np.array_equal(tiled.numbers, prepared.atoms.numbers)
    if not same or not np.allclose(tiled.cell, prepared.atoms.cell, atol=1e-3):
        raise ValueError(
            f"{name} is not the relaxed form of its slab: atoms, their order and cell must be the "
            "same as in the initial slab"
        )
    atoms = prepared.atoms.copy()
    atoms.set_positions(tiled.positions, apply_constraint=False)
    return atoms


def _check_geometry(atoms: Atoms, name: str) -> None:
    """What placement takes for granted: a cell with a and b in its plane, and vacuum along c."""
    if len(atoms) == 0:
        raise ValueError(f"{name} has no atoms")
    if atoms.cell.rank < 3:
        raise ValueError(f"{name} has no cell along all of a, b and c: it is no slab")
    if not np.isfinite(atoms.positions).all():
        raise ValueError(f"{name} has positions that are not finite")
    cell = np.asarray(atoms.cell)
    if np.abs(cell[:2, 2]).max() > 1e-3:
        raise ValueError(f"{name}: cell vectors a and b must lie in the xy plane; rotate the slab")
    if np.linalg.det(cell) < 0:
        raise ValueError(
            f"{name} has a left-handed cell, on which adsorbates would be placed below the slab: "
            "exchange a and b"
        )
    _, gaps = _gaps(atoms.get_scaled_positions()[:, 2])
    vacuum = float(gaps.max() * _thickness(atoms))
    if vacuum < MIN_VACUUM:
        raise ValueError(
            f"{name} has only {vacuum:.1f} Å of vacuum along c, less than {MIN_VACUUM:g} Å: it is "
            "a bulk, or needs more, e.g. atoms.center(vacuum=10, axis=2) with ASE"
        )
    if gaps.argmax() != len(gaps) - 1:
        raise ValueError(
            f"{name} crosses the cell's boundary along c: shift and wrap it, so that it lies in "
            "one piece with the vacuum above its surface"
        )


def _within_border(given: Atoms) -> Atoms:
    """A copy whose atoms on the cell's border along c lie on the side of the others.

    An atom at z = 0 may be read as -1e-15 Å, or as a whole c, and fairchem-data-oc would wrap it
    to the other side of the vacuum; so might the top of a slab that ends at c. A slab that truly
    crosses the border stays as it is.
    """
    atoms = given.copy()
    if atoms.cell.rank < 3 or not np.isfinite(atoms.positions).all() or not len(atoms):
        return atoms
    fractions = atoms.get_scaled_positions(wrap=False)[:, 2]
    margin = BORDER / _thickness(atoms)
    heights, widest = _gaps(fractions % 1.0)
    lowest = np.roll(heights, -1)[widest.argmax()]
    lowest -= lowest > 1 - margin
    # From a margin below the lowest atom upwards, through the border if need be.
    in_one_piece = lowest - margin + (fractions - lowest + margin) % 1.0
    top = in_one_piece.max()
    if top > 1 + margin:
        return atoms
    atoms.positions += np.rint(in_one_piece - fractions)[:, None] * atoms.cell[2]
    low = in_one_piece.min()
    if low < 0 or top >= 1:
        # A little more, lest rounding puts an atom beyond the border again.
        move = 1e-9 - low if low < 0 else 1 - 1e-9 - top
        atoms.positions += move * atoms.cell[2]
    return atoms


def _open_upper_half(atoms: Atoms) -> np.ndarray:
    """Atoms open to the vacuum and not below the centre of mass, as fairchem-data-oc has it."""
    heights = atoms.positions[:, 2]
    middle = np.average(heights, weights=atoms.get_masses())
    return np.asarray(reachable_from_above(atoms) & (heights >= middle))


def _thickness(atoms: Atoms) -> float:
    """Distance in Å between the cell's faces along c."""
    normal = np.cross(atoms.cell[0], atoms.cell[1])
    return float(atoms.cell.volume / np.linalg.norm(normal))


def _gaps(fractions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fractions along c in order, and the empty space above each, periodically."""
    heights = np.sort(fractions)
    return heights, np.diff(np.append(heights, heights[0] + 1.0))
