"""Losses are those of lines 21 to 31 of Algorithm 2, written out as loops over atoms."""

from __future__ import annotations

import math

import pytest
import torch
from dens_inputs import (
    COEFFICIENTS,
    NORMALIZATIONS,
    NORMALIZERS,
    SCENARIOS,
    corruption_of,
    labelled_batch,
    losses_of,
    random_predictions,
    scenario,
)


def distance(one, other) -> float:
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)))


def algorithm2(labels, drawn, predicted, normalization: str, energy_on_corrupted: bool) -> float:
    """The batch's loss; the other arguments are lists of plain numbers, atom by atom.

    ``labels``: structure, energy, forces, fixed; ``drawn``: structures, m, epsilon, sigma.
    """
    mean, scale = NORMALIZERS["energy"]
    force_scale = NORMALIZERS["forces"][1]
    total_energy = total_noise = total_force = 0.0
    number = len(labels["energy"])
    per_structure = normalization == "per_structure"
    noise_atoms = force_atoms = 0
    for j in range(number):
        members = [i for i, owner in enumerate(labels["structure"]) if owner == j]
        noise_sum = force_sum = 0.0
        for i in members:
            if labels["fixed"][i]:
                continue
            if drawn["m"][i]:
                scaled = [component / drawn["sigma"][i] for component in drawn["epsilon"][i]]
                noise_sum += distance(scaled, predicted["noise"][i])
                noise_atoms += 1
            else:
                normalised = [component / force_scale for component in labels["forces"][i]]
                force_sum += distance(normalised, predicted["forces"][i])
                force_atoms += 1
        if energy_on_corrupted or not drawn["structures"][j]:
            total_energy += abs((labels["energy"][j] - mean) / scale - predicted["energy"][j])
        total_noise += noise_sum / len(members) if per_structure else noise_sum
        total_force += force_sum / len(members) if per_structure else force_sum
    if normalization != "per_task":
        noise_atoms = force_atoms = number if per_structure else labels["fixed"].count(False)
    return (
        COEFFICIENTS["energy"] * total_energy / number
        + COEFFICIENTS["noise_forces"] * total_noise / max(noise_atoms, 1)
        + COEFFICIENTS["forces"] * total_force / max(force_atoms, 1)
    )


def oracle_of(data, corruption, predictions, normalization, energy_on_corrupted) -> float:
    labels = {
        "structure": data.batch.tolist(),
        "energy": data.energy.tolist(),
        "forces": data.forces.tolist(),
        "fixed": data.fixed.bool().tolist(),
    }
    drawn = {
        "structures": corruption.structures.tolist(),
        "m": corruption.atoms.tolist(),
        "epsilon": corruption.displacements.tolist(),
        "sigma": corruption.sigma.tolist(),
    }
    predicted = {
        "energy": predictions["energy"]["energy"].flatten().tolist(),
        "forces": predictions["forces"]["forces"].tolist(),
        "noise": predictions["noise_forces"]["noise_forces"].tolist(),
    }
    return algorithm2(labels, drawn, predicted, normalization, energy_on_corrupted)


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("energy_on_corrupted", [True, False])
def test_the_loss_of_a_batch_is_that_of_the_loops(name, normalization, energy_on_corrupted):
    for seed in range(15):
        data, corruption = scenario(name, seed)
        predictions = random_predictions(data, seed)
        options = {"energy_on_corrupted": energy_on_corrupted}
        losses = losses_of(data, corruption, predictions, normalization, **options)
        expected = oracle_of(data, corruption, predictions, normalization, energy_on_corrupted)
        assert float(sum(losses.values())) == pytest.approx(expected, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [
        # |S| = 3 and 1 atoms; the force of one free atom, the noise of another.
        ("per_structure", {"energy": 1.0, "forces": 250 / 3, "noise_forces": 65 / 3}),
        ("per_batch", {"energy": 1.0, "forces": 500 / 2, "noise_forces": 130 / 2}),
        ("per_task", {"energy": 1.0, "forces": 500 / 1, "noise_forces": 130 / 1}),
    ],
)
def test_losses_of_two_structures_are_those_computed_by_hand(normalization, expected):
    data = labelled_batch([3, 1], torch.tensor([0, 0, 1, 1]))
    structures, atoms = torch.tensor([True, False]), torch.tensor([True, False, False, False])
    corruption = corruption_of(data, structures, atoms)
    corruption.noise[0] = torch.tensor([3.0, 4.0, 12.0])
    # Energy: one prediction off by one, the other right. Force: five off after normalisation.
    data.energy = torch.tensor([-0.75 + 2.5, -0.75], dtype=torch.float64)
    data.forces[1] = 1.7 * torch.tensor([3.0, 0.0, -4.0])
    predictions = random_predictions(data)
    for values in predictions.values():
        for value in values.values():
            value.data.zero_()
    losses = losses_of(data, corruption, predictions, normalization)
    assert {k: float(v.detach()) for k, v in losses.items()} == pytest.approx(expected)


def test_the_ablation_without_encoded_forces_leaves_the_losses_alone():
    data, corruption = scenario("random", 3)
    predictions = random_predictions(data)
    one = losses_of(data, corruption, predictions)
    assert one == losses_of(data, corruption, predictions, encode_forces=False)
