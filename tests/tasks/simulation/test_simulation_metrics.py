"""Stability and h(r) where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import NeighborList, natural_cutoffs

from eqv2_plugin.data.sample import load_sample
from eqv2_plugin.tasks.simulation.metrics import (
    EDGES,
    bond_deviation,
    counted_frames,
    distance_counts,
    distance_density,
    find_bonds,
    hr_error,
    stability_ps,
)


@pytest.mark.parametrize(
    ("deviation", "counted"),
    [
        ([0.1, 0.2, 0.3], 3),
        ([0.1, 0.6, 0.3], 2),  # the frame that broke counts
        ([0.6, 0.1, 0.1], 1),
        ([0.1, 0.2, 0.6], 3),  # the last one is not tested
        ([0.6], 1),
        ([0.1, 0.5, 0.1], 3),  # not beyond
    ],
)
def test_frames_count_until_a_bond_is_broken(deviation, counted):
    assert counted_frames(np.array(deviation)) == counted
    assert stability_ps(np.array(deviation), 0.05) == pytest.approx(0.05 * (counted - 1))


@pytest.mark.parametrize(("sample", "bonds"), [("rmd17_ethanol", 8), ("rmd17_aspirin", 21)])
def test_bonds_are_those_of_ases_neighbour_list(sample, bonds):
    atoms = load_sample(sample, "test")[0]
    neighbours = NeighborList(natural_cutoffs(atoms), self_interaction=False)
    neighbours.update(atoms)
    expected = {
        tuple(sorted((i, int(j))))
        for i in range(len(atoms))
        for j in neighbours.get_neighbors(i)[0]
    }
    assert set(map(tuple, find_bonds(atoms).T)) == expected
    assert len(expected) == bonds


def test_only_bonds_that_change_deviate():
    frames = np.zeros((4, 3, 3))
    frames[:, 1, 0], frames[:, 2, 0] = 1.0, 3.0
    frames[2, 1, 0] = 1.3
    found = bond_deviation(frames, np.array([[0], [1]]), np.array([1.1]))
    np.testing.assert_allclose(found, [0.1, 0.1, 0.2, 0.1])


def test_the_density_has_an_integral_of_one_within_ten():
    rng = np.random.default_rng(0)
    frames = rng.normal(scale=4.0, size=(50, 6, 3))
    density = distance_density(distance_counts(frames))
    assert (density * np.diff(EDGES)).sum() == pytest.approx(1)
    # As over all ordered pairs with the diagonal.
    apart = np.linalg.norm(frames[:, :, None] - frames[:, None], axis=-1)
    expected, _ = np.histogram(apart.ravel(), EDGES, density=True)
    np.testing.assert_allclose(density, expected)
    assert hr_error(density, density) == 0
    left, right = np.zeros(500), np.zeros(500)
    left[3] = right[4] = 50.0
    assert hr_error(left, right) == pytest.approx(2)


def test_atoms_out_of_reach_have_no_density():
    frames = np.array([[[0.0, 0, 0], [99, 0, 0]]])
    with pytest.raises(ValueError, match="needs a molecule"):
        distance_density(distance_counts(frames))
    assert find_bonds(Atoms("H2", frames[0])).shape == (2, 0)
    assert bond_deviation(frames, np.zeros((2, 0), int), np.zeros(0)).tolist() == [0]
