"""Scores against numbers worked out by hand, and against fairchem's evaluator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.constraints import FixAtoms
from fairchem.core.modules.evaluator import Evaluator
from relaxation_inputs import surfaces

from eqv2_plugin.tasks.relaxation.metrics import is2re_metrics, is2rs_metrics, mean_distance


def box(positions, cell=10.0, fixed=()) -> Atoms:
    atoms = Atoms(f"Cu{len(positions)}", positions, cell=[cell] * 3, pbc=True)
    atoms.set_constraint(FixAtoms(list(fixed)))
    return atoms


def test_energy_errors_by_hand():
    found = is2re_metrics([1.0, -2.015, 0.5, 3.0], [1.01, -2.0, 0.0, 3.021])
    assert found["energy_mae_eV"] == pytest.approx((0.01 + 0.015 + 0.5 + 0.021) / 4)
    assert found["EwT_percent"] == 50.0
    assert found["structures"] == 4
    assert is2re_metrics([], []) == {}


def test_distances_by_hand():
    atoms = box([[1.0, 1, 1], [5, 5, 5]])
    target = atoms.positions + np.array([[0.3, 0, 0], [0, 0.1, 0]])
    assert mean_distance(atoms, target) == pytest.approx(0.2)
    found = is2rs_metrics([(atoms, target)])
    # Thresholds 0.010, 0.011, ..., 0.499: those above 0.2 are 0.201 to 0.499 (0.2 lies on one).
    assert found["ADwT_percent"] == pytest.approx(100 * 299.5 / 490, abs=60 / 490)
    assert found["mean_distance_A"] == pytest.approx(0.2)
    exact, far = (atoms, atoms.positions), (atoms, atoms.positions + 1.0)
    assert is2rs_metrics([exact])["ADwT_percent"] == 100.0
    assert is2rs_metrics([far])["ADwT_percent"] == 0.0
    assert is2rs_metrics([exact, far])["ADwT_percent"] == 50.0
    assert is2rs_metrics([]) == {}


def test_periodic_images_are_the_same_place():
    atoms = box([[0.05, 5, 5]])
    assert mean_distance(atoms, atoms.positions + np.array([[9.9, 0, 0]])) == pytest.approx(0.1)
    assert mean_distance(atoms, atoms.positions + np.array([[-20.0, 10, 0]])) == pytest.approx(
        0.0, abs=1e-9
    )


def test_fixed_atoms_do_not_count():
    atoms = box([[1.0, 1, 1], [5, 5, 5]], fixed=[0])
    target = atoms.positions + np.array([[0.3, 0, 0], [0, 0.1, 0]])
    assert mean_distance(atoms, target) == pytest.approx(0.1)
    all_fixed = box([[1.0, 1, 1], [5, 5, 5]], fixed=[0, 1])
    assert is2rs_metrics([(all_fixed, all_fixed.positions)])["ADwT_percent"] == 100.0


def test_adwt_is_that_of_fairchems_evaluator_on_the_whole_batch():
    noise = np.random.default_rng(0)
    pairs = []
    for _, atoms in surfaces(6):
        atoms.set_constraint()
        pairs.append((atoms, atoms.positions + noise.normal(0, 0.15, (len(atoms), 3))))
    positions = {
        "natoms": torch.tensor([len(atoms) for atoms, _ in pairs]),
        "cell": torch.tensor(np.array([np.array(atoms.cell) for atoms, _ in pairs])),
        "pbc": torch.tensor([True, True, True]),
    }
    predicted = {
        **positions,
        "positions": torch.tensor(np.concatenate([a.positions for a, _ in pairs])),
    }
    target = {**positions, "positions": torch.tensor(np.concatenate([t for _, t in pairs]))}
    measure = "average_distance_within_threshold"
    evaluator = Evaluator(eval_metrics={"positions": [measure]})
    expected = evaluator.eval(predicted, target)[f"positions_{measure}"]["metric"]
    found = is2rs_metrics(pairs)["ADwT_percent"] / 100
    assert 0.05 < found < 0.95
    assert found == pytest.approx(expected, abs=1e-12)


def test_what_cannot_be_compared_is_refused():
    atoms = box([[1.0, 1, 1]])
    with pytest.raises(ValueError, match=r"1 atoms.*\(2, 3\)"):
        is2rs_metrics([(atoms, np.zeros((2, 3)))])
    atoms.pbc = [True, True, False]
    with pytest.raises(ValueError, match="periodic in all directions"):
        mean_distance(atoms, atoms.positions)
