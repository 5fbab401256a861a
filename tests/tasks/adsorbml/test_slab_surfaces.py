"""Which atoms of a slab are surface without tags or a bulk, and where a slab begins."""

from __future__ import annotations

import numpy as np
import pytest
from adsorbml_inputs import slab
from ase import Atoms
from ase.build import add_adsorbate, bcc110, bulk, fcc100, fcc111, fcc211, hcp0001, surface
from ase.constraints import FixAtoms

from eqv2_plugin.tasks.adsorbml.slabs import prepare_relaxed, prepare_slab


def layers(atoms: Atoms) -> list[np.ndarray]:
    """Indices of the atoms of each layer, the highest first."""
    order = np.argsort(-atoms.positions[:, 2], kind="stable")
    steps = np.diff(atoms.positions[order, 2]) < -0.5
    return np.split(order, np.flatnonzero(steps) + 1)


def surface_of(atoms: Atoms) -> set[int]:
    """Surface atoms, after a check that all others are fixed, and nothing else."""
    atoms.set_tags(0)
    prepared = prepare_slab(atoms, "the slab").atoms[: len(atoms)]
    (fixed,) = [c for c in prepared.constraints if isinstance(c, FixAtoms)]
    tags = prepared.get_tags()
    assert set(fixed.index) == set(np.flatnonzero(tags == 0))
    return set(np.flatnonzero(tags == 1))


FLAT = {
    "fcc111": lambda: fcc111("Pt", (3, 3, 4), vacuum=11, periodic=True),
    "fcc100": lambda: fcc100("Pb", (3, 3, 4), vacuum=11, periodic=True),
    "hcp0001": lambda: hcp0001("Ru", (3, 3, 4), vacuum=11, periodic=True),
    "bcc110": lambda: bcc110("Fe", (4, 4, 4), vacuum=11, periodic=True),
    "MgO100": lambda: surface(
        bulk("MgO", "rocksalt", a=4.21, cubic=True), (1, 0, 0), 2, vacuum=11, periodic=True
    ).repeat((2, 2, 1)),
}
flat = pytest.mark.parametrize("make", FLAT.values(), ids=FLAT)


@flat
def test_of_a_flat_slab_the_highest_layer_is_surface(make):
    atoms = make()
    atoms.rattle(0.03, seed=1)
    assert surface_of(atoms) == set(layers(atoms)[0])


@pytest.mark.parametrize("kind", ["fcc111", "fcc100", "hcp0001", "bcc110"])
def test_the_terrace_around_an_adatom_is_surface(kind):
    atoms = FLAT[kind]()
    terrace = layers(atoms)[0]
    adatom = atoms.positions[terrace[0]] + np.array([1.0, 1.0, 2.3])
    atoms += Atoms("Pt", positions=[adatom])
    assert surface_of(atoms) == {*terrace, len(atoms) - 1}


def test_the_terrace_around_an_island_is_surface():
    atoms = fcc111("Pt", (4, 4, 3), vacuum=11, periodic=True)
    terrace = layers(atoms)[0]
    for offset in [(0, 0), (1, 0), (0, 1)]:
        add_adsorbate(atoms, "Pt", 2.27, "fcc", offset=offset)
    found = surface_of(atoms)
    island = set(range(len(atoms) - 3, len(atoms)))
    # Below the middle of the island nothing reaches the terrace's atom.
    assert island < found <= island | set(terrace)
    assert len(found) >= 3 + len(terrace) - 1


@pytest.mark.parametrize("make", [FLAT["fcc111"], FLAT["fcc100"], FLAT["hcp0001"]])
def test_the_floor_of_a_vacancy_is_surface(make):
    atoms = make()
    top = layers(atoms)[0]
    hole = atoms.positions[top[0]]
    del atoms[top[0]]
    vectors = atoms.positions - hole
    vectors -= np.round(vectors @ np.linalg.inv(atoms.cell.array)) @ atoms.cell.array
    distances = np.linalg.norm(vectors, axis=1)
    lost_a_neighbour = distances < 1.1 * distances.min()
    floor = {int(i) for i in np.flatnonzero(lost_a_neighbour) if vectors[i, 2] < -1.0}
    assert len(floor) in (3, 4)
    assert len(surface_of(atoms)) == len(top) - 1 + len(floor)
    assert floor < surface_of(atoms)


def test_both_terraces_beside_a_step_are_surface():
    atoms = fcc111("Pt", (6, 3, 4), vacuum=11, periodic=True)
    top = layers(atoms)[0]
    removed = top[atoms.get_scaled_positions()[top, 0] > 0.5]
    kept = set(atoms.positions[top, 0]) - set(atoms.positions[removed, 0])
    assert kept
    del atoms[removed]
    high, low = layers(atoms)[:2]
    found = surface_of(atoms)
    assert set(high) < found < set(high) | set(low)
    assert len(found) - len(high) >= len(removed)


def test_the_bottom_of_a_stepped_slab_is_not_surface():
    atoms = fcc211("Cu", (3, 3, 4), vacuum=11)
    found = surface_of(atoms)
    assert found
    middle = atoms.positions[:, 2].mean()
    assert all(atoms.positions[i, 2] > middle for i in found)


def test_the_surface_of_a_small_cell_is_that_of_the_large_one():
    small = fcc100("Cu", (1, 1, 4), vacuum=11, periodic=True)
    tall = small + Atoms("O", positions=[small.positions[-1] + [1.27, 1.27, 2.6]])
    assert surface_of(tall) == {3, 4}


def test_a_slab_that_is_bare_all_over_is_refused():
    with pytest.raises(ValueError, match="set tags"):
        prepare_slab(fcc111("Pt", (3, 3, 1), vacuum=11, periodic=True), "the slab")


def prepared_in_one_piece(atoms, wrapped):
    """The slab as a file gives it, and as it is prepared: whole, with nine surface atoms."""
    given = atoms.copy()
    if wrapped:
        given.positions = given.cell.cartesian_positions(given.get_scaled_positions() % 1.0)
    prepared = prepare_slab(given, "the slab")
    # In one piece, also for whoever wraps it.
    heights = prepared.atoms.get_scaled_positions()[:, 2] * prepared.atoms.cell[2, 2]
    assert np.ptp(heights) == pytest.approx(np.ptp(atoms.positions[:, 2]), abs=1e-8)
    assert (prepared.atoms.get_tags() == 1).sum() == 9
    return given, prepared


BELOW = [0.0, 1e-15, 1e-10, 1e-7, 1e-5, 5e-3]


@pytest.mark.parametrize("below", BELOW)
@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("tilted", [False, True])
def test_a_slab_may_begin_at_the_border_up_to_rounding(below, wrapped, tilted):
    atoms = slab()
    atoms.positions[:, 2] -= atoms.positions[:, 2].min() + below
    if tilted:
        atoms.set_cell(atoms.cell.array + np.array([[0, 0, 0], [0, 0, 0], [3.1, -1.7, 0]]))
    given, prepared = prepared_in_one_piece(atoms, wrapped)
    relaxed = given.copy()
    relaxed.positions[-1, 2] += 0.1
    moved = prepare_relaxed(prepared, relaxed, "the slab").positions - prepared.atoms.positions
    assert np.abs(moved[:, 2]).sum() == pytest.approx(0.1)


@pytest.mark.parametrize("beyond", [-5e-3, -1e-10, *BELOW])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_slab_may_end_at_the_border_up_to_rounding(beyond, wrapped):
    atoms = slab()
    atoms.positions[:, 2] += atoms.cell[2, 2] - atoms.positions[:, 2].max() + beyond
    prepared_in_one_piece(atoms, wrapped)


@pytest.mark.parametrize("below", [0.1, 1.0])
def test_a_slab_that_crosses_the_border_is_refused(below):
    atoms = slab()
    atoms.positions[:, 2] -= atoms.positions[:, 2].min() + below
    with pytest.raises(ValueError, match="crosses the cell's boundary"):
        prepare_slab(atoms, "the slab")
