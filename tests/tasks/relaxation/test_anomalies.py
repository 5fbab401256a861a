"""Relaxed structures with overlapping or lost atoms are told from sound ones."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.data import covalent_radii
from relaxation_inputs import surface

from eqv2_plugin.data.sample import load_sample
from eqv2_plugin.tasks.relaxation.anomalies import LEFT, TOO_NEAR, find_anomalies

LIMIT = 0.5 * (covalent_radii[29] + covalent_radii[8])


def pair(distance: float, **options) -> Atoms:
    return Atoms("CuO", positions=[[0, 0, 0], [0, 0, distance]], **options)


def test_frames_of_dft_relaxations_are_sound():
    frames = load_sample("oc20_sample", "val_id")
    first = {atoms.info["sid"]: atoms for atoms in reversed(frames)}
    for atoms in frames:
        assert find_anomalies(first[atoms.info["sid"]], atoms) == {}


@pytest.mark.parametrize(("distance", "kinds"), [(LIMIT - 1e-3, [TOO_NEAR]), (LIMIT + 1e-3, [])])
def test_half_the_covalent_radii_is_the_limit(distance, kinds):
    atoms = pair(distance)
    assert list(find_anomalies(atoms, atoms)) == kinds


def test_the_nearest_pair_is_named():
    atoms = surface(1)
    atoms.positions[3] = atoms.positions[1] + [0, 0, 0.05]
    found = find_anomalies(atoms, atoms)
    expected = "Cu (atom 1) and Cu (atom 3) are 0.050 Å apart, 0.02 of their covalent radii"
    assert found == {TOO_NEAR: expected}


@pytest.mark.parametrize("jump", [(0, 0, 0), (1, -2, 0), (40, 0, 3)])
def test_periodic_images_count(jump):
    cell = np.array([[5.0, 1.0, 0.0], [0.0, 6.0, 0.5], [0.3, 0.0, 7.0]])
    start = pair(3.0, cell=cell, pbc=True)
    atoms = start.copy()
    atoms.positions[1] = atoms.positions[0] + np.array(jump) @ cell + [0.1, 0.2, 0.3]
    assert TOO_NEAR in find_anomalies(start, atoms)
    atoms.pbc = False
    assert (TOO_NEAR in find_anomalies(start, atoms)) == (jump == (0, 0, 0))


def test_an_atom_may_be_too_near_to_its_own_image():
    atoms = bulk("Cu", cubic=False)
    atoms.set_cell(0.4 * atoms.cell, scale_atoms=True)
    assert "Cu (atom 0) and its periodic image" in find_anomalies(atoms, atoms)[TOO_NEAR]


@pytest.mark.parametrize(("part", "kinds"), [(0.99, []), (1.01, [LEFT])])
def test_an_atom_has_left_beyond_the_diagonal_of_the_cell(part, kinds):
    start = pair(3.0, cell=[3.0, 4.0, 12.0], pbc=True)  # its diagonal is 13 Å
    atoms = start.copy()
    atoms.positions[1] += part * 13.0 * np.array([0.6, 0.8, 0.0])
    assert list(find_anomalies(start, atoms)) == kinds


def test_the_farthest_atom_is_named_and_the_others_are_counted():
    start = surface(2)
    atoms = start.copy()
    atoms.positions[[0, 2]] += np.array([[0, 0, 1e5], [0, 0, 200.0]])
    text = find_anomalies(start, atoms)[LEFT]
    assert text.startswith("Cu (atom 0) moved by 1e+05 Å, and 1 other atom(s) too: farther than")


def test_an_atom_may_leave_a_slab_without_third_vector():
    start = fcc111("Cu", (2, 2, 2))
    assert start.cell.rank == 2
    atoms = start.copy()
    atoms.positions[4, 2] += 9.0  # the vectors in the plane have a diagonal of 8.8 Å
    assert find_anomalies(start, atoms) == {}
    atoms.positions[4, 2] += 9.0
    assert list(find_anomalies(start, atoms)) == [LEFT]


def test_without_a_cell_the_box_around_the_atoms_is_the_measure():
    start = molecule("H2O")
    atoms = start.copy()
    atoms.positions[0, 0] += 9.0  # a molecule may fall apart
    assert find_anomalies(start, atoms) == {}
    atoms.positions[0, 0] += 9.0
    assert list(find_anomalies(start, atoms)) == [LEFT]
