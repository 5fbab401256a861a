"""Coinciding atoms are found wherever they are, and nothing else is taken for them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from helpers import batch_of, crystal, molecule, periodicities, slab, tiny_config

from eqv2_plugin.graphs.build import build_graph

TILTED = np.array([[5.0, 1, 2], [1, 5, -2], [0, 0, 9]])


def check(*structures: Atoms, dtype: torch.dtype = torch.float64) -> None:
    build_graph(batch_of(*structures, dtype=dtype), tiny_config())


def with_double(atoms: Atoms, index: int, jump, away: np.ndarray) -> Atoms:
    """An image of an atom, ``jump`` cells away and a little beside it, as a further atom."""
    double = atoms[[index]]
    double.positions += np.array(jump) * atoms.pbc @ np.array(atoms.cell) + away
    return atoms + double


def away(seed: int, distance: float) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=3)
    return distance * vector / np.linalg.norm(vector)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@periodicities
def test_across_every_tilted_lattice_vector(pbc, dtype):
    random = np.random.default_rng(0)
    for seed, jump in enumerate([(0, 0, 0), (2, -1, 0), (-1, 1, 0), (1, 2, -1), (-3, 0, 2)]):
        atoms = Atoms("CuO", random.uniform(-9, 9, (2, 3)), cell=TILTED, pbc=pbc)
        for distance in (0.0, 1e-5, 0.009):
            with pytest.raises(ValueError, match=r"atoms 1 and 2 of structure 1 coincide"):
                check(molecule(), with_double(atoms, 1, jump, away(seed, distance)), dtype=dtype)
        check(molecule(), with_double(atoms, 1, jump, away(seed, 0.011)), dtype=dtype)


def test_among_many_atoms_in_one_plane_of_the_old_order():
    """Further atoms with the same projection along any one direction hide no pair."""
    direction = np.array([0.5257311, 0.7320508, 0.4336284])
    across = np.cross(direction, [0, 0, 1.0])
    across /= np.linalg.norm(across)
    positions = [i * 1.5 * across for i in range(30)]
    positions.append(positions[11] + 0.004 * across)
    with pytest.raises(ValueError, match="atoms 11 and 30"):
        check(Atoms("H31", positions))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("distance", [1e-9, 0.0099])
def test_on_both_sides_of_a_border(axis, distance):
    atoms = Atoms("HH", np.full((2, 3), 1.1), cell=np.diag([5.0, 6.0, 7.0]) @ TILTED / 5, pbc=True)
    fractions = np.full((2, 3), 0.3)
    fractions[:, axis] = 0.0
    atoms.set_scaled_positions(fractions)
    normal = np.linalg.inv(np.array(atoms.cell))[:, axis]
    atoms.positions[0] += normal / np.linalg.norm(normal) * distance / 2
    atoms.positions[1] -= normal / np.linalg.norm(normal) * distance / 2
    with pytest.raises(ValueError, match="atoms 0 and 1"):
        check(atoms)


def test_close_pairs_on_a_fine_grid_do_not_coincide():
    """Every atom shares a bin with another one, and none is within 0.01 Å."""
    grid = np.array(list(itertools.product(range(3), repeat=3))) * 0.0101
    check(Atoms("H27", grid), crystal(), slab())


def test_all_atoms_doubled_are_found_fast():
    atoms = Atoms("H2000", np.random.default_rng(0).uniform(0, 60, (2000, 3)))
    with pytest.raises(ValueError, match="coincide"):
        check(atoms + atoms)
