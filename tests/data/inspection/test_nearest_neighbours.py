"""Nearest neighbours equal those of ASE's neighbour list."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from helpers import crystal, molecule, slab
from inspection_inputs import oc20_frames

from eqv2_plugin.data.inspection.frames import frame_of
from eqv2_plugin.data.inspection.neighbours import ISOLATED


def outside() -> Atoms:
    atoms = crystal()
    atoms.positions += [17.0, -23.0, 5.0]
    return atoms


def flat_slab() -> Atoms:
    """Periodic in the plane only, with no third cell vector."""
    return fcc111("Cu", size=(1, 1, 3), a=3.6)


def skew() -> Atoms:
    atoms = bulk("Fe", cubic=True)
    return Atoms(atoms, cell=atoms.cell.array + np.outer([0, 0, 1], 7 * atoms.cell[0]))


STRUCTURES = {
    "relaxation": oc20_frames(1)[0],
    "slab": slab(),
    "crystal": crystal(),
    "outside the cell": outside(),
    "molecule": molecule(),
    "one atom and its images": bulk("Cs"),
    "no third vector": flat_slab(),
    "skew cell": skew(),
    "a lone atom beside others": molecule() + Atoms("He", positions=[[30.0, 0.0, 0.0]]),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_distances_and_ratios_equal_those_of_ase(name):
    atoms = STRUCTURES[name]
    i, j, d = neighbor_list("ijd", atoms, ISOLATED)
    distance, ratio = np.full(len(atoms), np.inf), np.full(len(atoms), np.inf)
    np.minimum.at(distance, i, d)
    radii = covalent_radii[atoms.numbers]
    np.minimum.at(ratio, i, d / (radii[i] + radii[j]))
    ratio[atoms.numbers == 2] = np.nan
    found = frame_of(atoms).nearest
    assert found.problem is None
    np.testing.assert_allclose(found.distance, distance, rtol=1e-9)
    np.testing.assert_allclose(found.ratio, ratio, rtol=1e-9)


def test_a_crowded_cell_is_measured_without_millions_of_images():
    atoms = crystal()
    atoms.set_cell(atoms.cell * 0.1, scale_atoms=True)
    found = frame_of(atoms).nearest
    whole = frame_of(crystal()).nearest
    np.testing.assert_allclose(found.distance, whole.distance * 0.1, rtol=1e-9)


def test_atoms_at_one_place_have_distance_zero():
    atoms = Atoms("H2", positions=np.zeros((2, 3)))
    assert frame_of(atoms).nearest.distance.tolist() == [0.0, 0.0]


NOT_MEASURABLE = {
    "no atoms": Atoms(),
    "not finite": Atoms("H2", positions=[[0, 0, 0], [0, 0, np.nan]]),
    "cell vector": Atoms("H", cell=[3, 3, 0], pbc=True),
    "flat": Atoms("H", cell=[[3, 0, 0], [0, 3, 0], [3, 3, 1e-5]], pbc=True),
    "atomic numbers": Atoms(numbers=[0]),
}


@pytest.mark.parametrize("problem", NOT_MEASURABLE)
def test_what_has_no_distances_says_why(problem):
    assert problem in frame_of(NOT_MEASURABLE[problem]).nearest.problem
