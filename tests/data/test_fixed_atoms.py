"""One rule says which atoms are fixed, whatever constraint holds them."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.constraints import (
    FixAtoms,
    FixBondLength,
    FixCartesian,
    FixedLine,
    FixedPlane,
    FixScaled,
)

from eqv2_plugin.data.fixed_atoms import (
    fixed_mask,
    held_along_axes,
    partly_fixed,
    use_fix_atoms,
)


def slab(*constraints) -> Atoms:
    atoms = fcc111("Cu", (2, 2, 2), vacuum=6, periodic=True)  # a skew cell
    atoms.set_constraint(list(constraints))
    return atoms


HELD = {
    "FixAtoms": [FixAtoms([0, 3])],
    "FixAtoms twice": [FixAtoms([0]), FixAtoms([3])],
    "FixCartesian": [FixCartesian([0, 3])],
    "FixCartesian of each atom": [FixCartesian(0), FixCartesian(3)],
    "FixCartesian, counted from the end": [FixCartesian([-8, -5])],
    "FixCartesian in parts": [
        FixCartesian([0, 3], (True, False, False)),
        FixCartesian([0, 3, 5], (False, True, True)),
    ],
    "FixScaled": [FixScaled([0, 3])],
    "FixScaled in parts": [
        FixScaled([0, 3], (True, True, False)),
        FixScaled([0, 3], (False, False, True)),
    ],
    "FixCartesian and FixScaled": [
        FixCartesian([0, 3], (True, True, False)),
        FixScaled([0, 3], (False, False, True)),
    ],
    "plane and line": [FixedPlane([0, 3], [1, 1, 0]), FixedLine([0, 3], [1, 1, 0])],
    "three planes": [FixedPlane([0, 3], d) for d in ([1, 0, 0], [1, 1, 0], [1, 1, 1])],
}
FREE = {
    "none": [],
    "bond length": [FixBondLength(0, 3)],
    "FixCartesian that holds nothing": [FixCartesian([0, 3], (False, False, False))],
}
PARTLY = {
    "FixCartesian x": [FixCartesian([0, 3], (True, False, False))],
    "FixCartesian z twice": [FixCartesian([0, 3], (False, False, True))] * 2,
    "FixScaled": [FixScaled([0, 3], (True, True, False))],
    # The third reciprocal vector of a slab points along z.
    "the same direction twice": [
        FixCartesian([0, 3], (True, False, True)),
        FixScaled([0, 3], (False, False, True)),
    ],
    "plane": [FixedPlane([0, 3], [1, 2, 3])],
    "line": [FixedLine([0, 3], [1, 2, 3])],
    "line in a plane": [FixedLine([0, 3], [1, 0, 0]), FixedPlane([0, 3], [0, 1, 0])],
}


def moves(atoms: Atoms) -> np.ndarray:
    """[atoms] whether ASE lets an atom move at all, whatever the step."""
    moved = np.zeros(len(atoms), bool)
    for step in np.random.default_rng(0).normal(size=(6, len(atoms), 3)):
        tried = atoms.copy()
        for _ in range(60):  # constraints are applied in turn
            tried.set_positions(tried.positions + step)
            step = tried.positions - atoms.positions
            tried.positions = atoms.positions
        moved |= np.linalg.norm(step, axis=1) > 1e-6
    return moved


@pytest.mark.parametrize("name", HELD)
def test_atoms_held_in_three_directions_are_fixed(name):
    atoms = slab(*HELD[name])
    assert np.flatnonzero(fixed_mask(atoms)).tolist() == [0, 3]
    assert partly_fixed(atoms) == (name == "FixCartesian in parts")


@pytest.mark.parametrize("name", FREE)
def test_atoms_that_nothing_holds_are_free(name):
    atoms = slab(*FREE[name])
    assert not fixed_mask(atoms).any()
    assert partly_fixed(atoms) == 0


@pytest.mark.parametrize("name", PARTLY)
def test_atoms_held_in_fewer_directions_are_free_and_counted(name):
    atoms = slab(*PARTLY[name])
    assert not fixed_mask(atoms).any()
    assert partly_fixed(atoms) == 2


@pytest.mark.parametrize("name", [*HELD, *PARTLY])
def test_fixed_atoms_are_those_that_ase_never_moves(name):
    atoms = slab(*{**HELD, **PARTLY}[name])
    assert np.array_equal(fixed_mask(atoms), ~moves(atoms))


@pytest.mark.parametrize("name", [*HELD, *FREE, *PARTLY])
def test_fix_atoms_say_the_same_and_move_the_same(name):
    before = slab(*{**HELD, **FREE, **PARTLY}[name])
    atoms = before.copy()
    use_fix_atoms(atoms)
    held = {i for c in atoms.constraints if isinstance(c, FixAtoms) for i in c.index}
    assert held == set(np.flatnonzero(fixed_mask(before)))
    assert np.array_equal(fixed_mask(atoms), fixed_mask(before))
    assert partly_fixed(atoms) == partly_fixed(before)
    free = ~fixed_mask(before)
    step = np.random.default_rng(1).normal(size=(8, 3))
    for one in (before, atoms):
        if name != "bond length":  # its constraint wants the distance that it was given
            one.set_positions(one.positions + step)
    assert np.allclose(atoms.positions[free], before.positions[free], atol=1e-12)


def test_constraints_that_are_kept_hold_free_atoms_only():
    atoms = slab(FixCartesian([0, 3]), FixCartesian([3, 5], (True, False, False)), FixAtoms([1]))
    use_fix_atoms(atoms)
    first, second = atoms.constraints
    assert isinstance(first, FixAtoms)
    assert sorted(first.index) == [0, 1, 3]
    assert isinstance(second, FixCartesian)
    assert second.index.tolist() == [5]


def test_a_structure_with_fix_atoms_only_stays_as_it_is():
    atoms = slab(FixAtoms([0]), FixAtoms([3]))
    kept = list(atoms.constraints)
    use_fix_atoms(atoms)
    assert all(a is b for a, b in zip(atoms.constraints, kept, strict=True))


def test_a_cell_without_all_vectors_raises_nothing():
    atoms = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.2]])
    atoms.set_constraint([FixScaled([0], (True, True, False)), FixedLine([0], [0, 0, 1])])
    assert not fixed_mask(atoms).any()
    assert partly_fixed(atoms) == 1


def test_fixed_atoms_and_cartesian_directions_are_in_the_table():
    atoms = Atoms("H5", positions=np.eye(5, 3) * 3)
    atoms.set_constraint(
        [
            FixAtoms([0]),
            FixCartesian(1, (True, False, False)),
            FixedPlane(2, (0, 0, 1)),
            # Together they fix it.
            FixedPlane(3, (0, 0, 1)),
            FixCartesian(3, (True, True, False)),
        ]
    )
    expected = [[True] * 3, [True, False, False], [False] * 3, [True] * 3, [False] * 3]
    np.testing.assert_array_equal(held_along_axes(atoms), expected)
