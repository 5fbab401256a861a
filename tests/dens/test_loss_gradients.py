"""Gradients of the DeNS losses: finite, only where a target counts, the same on many ranks."""

from __future__ import annotations

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
from fairchem.core.common import distutils

from eqv2_plugin.dens.losses import DenoisingLoss


def gradients(data, corruption, predictions, normalization="per_structure", **options):
    sum(losses_of(data, corruption, predictions, normalization, **options).values()).backward()
    return {name: values[name].grad for name, values in predictions.items()}


def own_atoms(data, corruption):
    free = data.fixed == 0
    return {"forces": free & ~corruption.atoms, "noise_forces": corruption.atoms}


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_gradients_are_unit_vectors_on_the_atoms_of_each_task_and_zero_elsewhere(
    name, normalization
):
    for seed in range(10):
        data, corruption = scenario(name, seed)
        grads = gradients(data, corruption, random_predictions(data, seed), normalization)
        size = data.natoms[data.batch].double() * len(data.natoms)
        if normalization == "per_batch":
            size = torch.full_like(size, float((data.fixed == 0).sum()))
        for task, own in own_atoms(data, corruption).items():
            if normalization == "per_task":
                size = torch.full_like(size, float(own.sum()))
            assert not grads[task][~own].any(), task
            length = torch.linalg.vector_norm(grads[task][own], dim=1)
            torch.testing.assert_close(length, COEFFICIENTS[task] / size[own])
        weight = COEFFICIENTS["energy"] / len(data.natoms)
        torch.testing.assert_close(grads["energy"].abs(), torch.full_like(grads["energy"], weight))


def test_energies_of_corrupted_structures_get_no_gradient_in_the_ablation():
    data, corruption = scenario("random", 1)
    assert corruption.structures.any()
    assert not corruption.structures.all()
    grads = gradients(data, corruption, random_predictions(data), energy_on_corrupted=False)
    assert torch.equal(grads["energy"].flatten() == 0, corruption.structures)


def test_perfect_predictions_have_no_loss_and_finite_gradients():
    data = labelled_batch([4, 3], torch.tensor([1, 0, 0, 0, 0, 0, 1]))
    corruption = corruption_of(data, torch.tensor([True, False]), torch.arange(7) < 3)
    predictions = random_predictions(data)
    own = own_atoms(data, corruption)
    targets = {"forces": data.forces / NORMALIZERS["forces"][1], "noise_forces": corruption.noise}
    for task, target in targets.items():
        predictions[task][task].data[own[task]] = target[own[task]]
    losses = losses_of(data, corruption, predictions)
    assert float(losses["forces"].detach()) == float(losses["noise_forces"].detach()) == 0.0
    grads = gradients(data, corruption, predictions)
    for task in own:
        assert not grads[task].any()


@pytest.mark.parametrize("scale", [1e-160, 1e-30, 1e30, 1e150])
def test_gradients_of_tiny_and_huge_differences_are_finite(scale):
    data = labelled_batch([2])
    corruption = corruption_of(data, torch.tensor([True]), torch.tensor([True, False]))
    data.forces = torch.zeros_like(data.forces)
    corruption.noise.zero_()
    predictions = random_predictions(data)
    for task in ("forces", "noise_forces"):
        predictions[task][task].data.mul_(scale)
    for grad in gradients(data, corruption, predictions).values():
        assert torch.isfinite(grad).all()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("task", ["energy", "forces"])
def test_the_mean_over_ranks_is_the_loss_of_the_joined_batch(normalization, task, monkeypatch):
    sizes = {0: [3, 1, 5], 1: [2]}
    parts = []
    for rank, natoms in sizes.items():
        count = len(natoms) if task == "energy" else sum(natoms)
        source = torch.Generator().manual_seed(rank)
        shape = (count, 1 if task == "energy" else 3)
        pred, target = (torch.randn(*shape, generator=source).double() for _ in range(2))
        mask = torch.rand(count, generator=source) < 0.6
        mask[0] = True
        target[~mask] = torch.nan
        if task == "forces" and rank == 0:
            mask[1], target[1] = False, torch.inf
        parts.append((pred, target, mask, torch.tensor(natoms)))
    loss = DenoisingLoss(3.0, normalization, "system" if task == "energy" else "atom")
    joined = float(loss(*(torch.cat(tensors) for tensors in zip(*parts, strict=True))))

    counts = []
    monkeypatch.setattr(distutils, "all_reduce", lambda count: counts.append(count) or count)
    for part in parts:
        loss(*part)
    total = sum(counts)
    monkeypatch.setattr(distutils, "all_reduce", lambda count: total)
    monkeypatch.setattr(distutils, "get_world_size", lambda: len(parts))
    mean = sum(float(loss(*part)) for part in parts) / len(parts)
    assert mean == pytest.approx(joined, rel=1e-12)
