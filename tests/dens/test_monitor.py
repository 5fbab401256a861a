"""Figures of the auxiliary task against numbers computed by hand."""

from __future__ import annotations

import pytest
import torch
from dens_inputs import config, corruption_of, labelled_batch, random_predictions, tasks
from fairchem.core.units.mlip_unit.mlip_unit import compute_loss

from eqv2_plugin.dens.corruption import Corruption, corrupt_batch
from eqv2_plugin.dens.monitor import DenoisingMonitor

# mean and rmsd
NORMALIZERS = {"energy": (-1.0, 2.0), "forces": (0.0, 4.0), "noise_forces": (0.0, 1.0)}
TASKS = {task.name: task for task in tasks(normalizers=NORMALIZERS)}


def step_by_hand(corrupted: bool = True):
    """Structures of 3 and 2 atoms; atom 0 is corrupted, atom 2 is fixed."""
    data = labelled_batch([3, 2], torch.tensor([0, 0, 1, 0, 0]))
    data.energy = torch.tensor([1.0, 5.0], dtype=torch.float64)
    data.forces = torch.zeros(5, 3, dtype=torch.float64)
    atoms = torch.tensor([corrupted, False, False, False, False])
    noise = torch.zeros(5, 3, dtype=torch.float64)
    noise[0, 0] = 2.0 * corrupted
    sigma = torch.tensor([0.1, 0.1, 0.1, 0.0, 0.0], dtype=torch.float64) * corrupted
    corruption = Corruption(torch.tensor([corrupted, False]), atoms, noise, sigma)
    # Predicted energies are 0 * 2 - 1 and 1 * 2 - 1 eV.
    energy = torch.tensor([0.0, 1.0], dtype=torch.float64).requires_grad_()
    forces = torch.full((5, 3), 100.0, dtype=torch.float64)
    # Off by 2, 0, 0; 4, 4, 4 and 0 eV/Å on the free atoms that are not corrupted.
    forces[1] = torch.tensor([0.5, 0.0, 0.0])
    forces[3], forces[4] = -1.0, 0.0
    predicted = torch.full((5, 3), 50.0, dtype=torch.float64)
    predicted[0] = torch.tensor([1.0, 1.0, 0.0])
    values = {"energy": energy, "forces": forces, "noise_forces": predicted}
    return {name: {name: value} for name, value in values.items()}, data, corruption


def take(monitor, predictions, data, corruption):
    """A step's losses, as fairchem computes them, and then the monitor."""
    compute_loss(list(TASKS.values()), predictions, corrupt_batch(data, corruption, config()))
    monitor.update(data, corruption, TASKS)


def with_noise_target(data):
    """As the collater gives it to an evaluation."""
    data = data.clone()
    data.noise_forces = torch.full_like(data.forces, torch.inf)
    return data


BY_HAND = {
    "noise_mae_sigma": 2 / 3,
    "noise_rmse_sigma": (2 / 3) ** 0.5,
    "noise_cosine": 0.5**0.5,
    "energy_mae_corrupted_meV": 2000.0,
    "energy_mae_clean_meV": 4000.0,
    "forces_mae_uncorrupted_meV_per_A": 14000 / 9,
    "corrupted_fraction_atoms": 0.25,
    "corrupted_fraction_structures": 0.5,
}


def test_figures_of_one_step_are_those_computed_by_hand():
    monitor = DenoisingMonitor()
    take(monitor, *step_by_hand())
    assert monitor.mean_and_reset() == pytest.approx(BY_HAND)


def test_the_progress_line_shows_the_figures_since_the_last_one():
    monitor = DenoisingMonitor()
    take(monitor, *step_by_hand())
    assert monitor.recent_line() == (
        "noise MAE/RMSE 0.67/0.82 sigma, cos 0.71; energy corrupted/clean 2000/4000 meV, "
        "forces 1556 meV/Å; corrupted structures/atoms 50%/25%"
    )
    take(monitor, *step_by_hand(corrupted=False))
    assert "noise MAE/RMSE -/- sigma" in monitor.recent_line()
    # Lines do not empty what the next validation reports.
    assert monitor.mean_and_reset()["noise_mae_sigma"] == pytest.approx(2 / 3)


def test_figures_of_two_steps_weigh_atoms_and_structures_equally():
    monitor = DenoisingMonitor()
    take(monitor, *step_by_hand())
    take(monitor, *step_by_hand(corrupted=False))
    # The second step has one more free atom with a force: 0 - 400 eV/Å in each component.
    changes = {
        "energy_mae_clean_meV": (4000 + 2000 + 4000) / 3,
        "forces_mae_uncorrupted_meV_per_A": (14000 + 14000 + 3 * 400000) / 21,
        "corrupted_fraction_atoms": 1 / 8,
        "corrupted_fraction_structures": 1 / 4,
    }
    assert monitor.mean_and_reset() == pytest.approx({**BY_HAND, **changes})


def test_validation_compares_the_noise_with_and_without_encoded_forces():
    _, _, corruption = step_by_hand()
    encoded, unencoded = corruption.noise.clone(), torch.full_like(corruption.noise, 7.0)
    encoded[0, 1] += 0.3
    unencoded[0] = corruption.noise[0] + 0.5
    monitor = DenoisingMonitor()
    monitor.update_encoding(corruption, encoded, unencoded)
    figures = monitor.mean_and_reset()
    assert figures == pytest.approx(
        {"noise_mae_encoded_sigma": 0.1, "noise_mae_unencoded_sigma": 0.5}
    )


def test_figures_without_data_are_left_out():
    monitor = DenoisingMonitor()
    take(monitor, *step_by_hand(corrupted=False))
    figures = monitor.mean_and_reset()
    missing = {"noise_mae_sigma", "noise_rmse_sigma", "noise_cosine", "energy_mae_corrupted_meV"}
    assert set(figures) == set(BY_HAND) - missing
    assert figures["corrupted_fraction_atoms"] == 0.0


def test_losses_of_an_evaluation_are_not_seen():
    monitor, step = DenoisingMonitor(), step_by_hand()
    take(monitor, *step)
    compute_loss(list(TASKS.values()), random_predictions(step[1]), with_noise_target(step[1]))
    assert monitor.mean_and_reset() == pytest.approx(BY_HAND)


def test_reading_the_figures_empties_them():
    monitor = DenoisingMonitor()
    assert monitor.mean_and_reset() == {}
    for _ in range(2):
        take(monitor, *step_by_hand())
        assert monitor.mean_and_reset() == pytest.approx(BY_HAND)
    assert monitor.mean_and_reset() == {}


def test_a_perfect_noise_prediction_has_cosine_one_and_no_error():
    data = labelled_batch([6, 5])
    corruption = corruption_of(data, torch.tensor([True, False]), torch.arange(11) < 4)
    predictions = random_predictions(data)
    predictions["noise_forces"]["noise_forces"] = corruption.noise.clone()
    monitor = DenoisingMonitor()
    take(monitor, predictions, data, corruption)
    figures = monitor.mean_and_reset()
    assert figures["noise_cosine"] == pytest.approx(1.0)
    assert figures["noise_mae_sigma"] == figures["noise_rmse_sigma"] == 0.0
    assert figures["corrupted_fraction_atoms"] == pytest.approx(4 / 11)
