"""What DeNS cannot train is refused; what a corrupted batch holds."""

from __future__ import annotations

import pytest
import torch
from dens_inputs import config, corruption_of, labelled_batch, scenario, tasks
from fairchem.core.modules.loss import DDPMTLoss, L2NormLoss
from helpers import DIRECT_HEADS, tiny_model

from eqv2_plugin.dens.checks import check_denoising_batch, check_denoising_tasks
from eqv2_plugin.dens.corruption import corrupt_batch

NOISE = {"module": "eqv2_plugin.heads.forces.NoiseHead"}
HEADS = {**DIRECT_HEADS, "noise_forces": NOISE}


def dens_model(heads=HEADS, force_encoding=True, **options):
    return tiny_model(heads, force_encoding=force_encoding, num_layers=1, **options)


def test_the_tasks_heads_and_backbone_of_the_recipe_are_accepted():
    check_denoising_tasks(tasks(), dens_model(), config())
    check_denoising_tasks(tasks(), dens_model(sigma_encoding=True), config(sigma_low=0.01))


@pytest.mark.parametrize("name", ["energy", "forces", "noise_forces"])
def test_a_missing_task_is_named(name):
    others = [task for task in tasks() if task.name != name]
    with pytest.raises(ValueError, match=f"needs the tasks .*; '{name}' is missing"):
        check_denoising_tasks(others, dens_model(), config())


@pytest.mark.parametrize("name", ["energy", "forces", "noise_forces"])
def test_a_loss_that_divides_otherwise_is_refused(name):
    wrong = tasks()
    next(task for task in wrong if task.name == name).loss_fn = DDPMTLoss(L2NormLoss())
    with pytest.raises(ValueError, match=f"loss of task '{name}' must be .*DenoisingLoss"):
        check_denoising_tasks(wrong, dens_model(), config())


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ({"heads": DIRECT_HEADS}, {}, r"needs a head 'noise_forces' .*'energy', 'forces'"),
        ({"force_encoding": False}, {}, "needs force_encoding=true on the backbone"),
        ({}, {"sigma_low": 0.01}, r"set model\.backbone\.sigma_encoding=true"),
    ],
)
def test_a_model_without_what_dens_needs_is_refused(model, changes, message):
    with pytest.raises(ValueError, match=message):
        check_denoising_tasks(tasks(), dens_model(**model), config(**changes))


@pytest.mark.parametrize("field", ["forces", "energy", "fixed"])
def test_a_batch_without_labels_is_refused(field):
    data = labelled_batch([2, 3])
    check_denoising_batch(data)
    del data[field]
    with pytest.raises(ValueError, match=f"the training data has no '{field}'"):
        check_denoising_batch(data)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_force_that_is_not_finite_names_its_structure(value):
    data = labelled_batch([2, 3])
    data.forces[3, 1] = value
    with pytest.raises(ValueError, match=r"atom 1 of structure 1 \('frame 1'\) of the batch"):
        check_denoising_batch(data)


def test_an_energy_that_is_not_finite_is_refused():
    data = labelled_batch([2, 3])
    data.energy[1] = torch.nan
    with pytest.raises(ValueError, match=r"energy of structure 1 \('frame 1'\) of the batch"):
        check_denoising_batch(data)


def test_corrupting_a_batch_leaves_the_original_as_it_is():
    data, corruption = scenario("random", 2)
    assert corruption.atoms.any()
    before = data.clone()
    corrupted = corrupt_batch(data, corruption, config(energy_on_corrupted=False))
    corrupted.pos += 1.0
    corrupted.forces.zero_()
    corrupted.energy.zero_()
    assert set(data.keys()) == set(before.keys())
    for name, value in before:
        kept = data[name]
        assert torch.equal(kept, value) if torch.is_tensor(value) else kept == value, name


def test_a_corrupted_batch_moves_and_encodes_corrupted_atoms_only():
    data, corruption = scenario("random", 2)
    corrupted, atoms = corrupt_batch(data, corruption, config()), corruption.atoms
    moved = corrupted.pos - data.pos
    noise = corruption.noise[atoms] * corruption.sigma[atoms].unsqueeze(1)
    torch.testing.assert_close(moved[atoms], noise)
    assert not moved[~atoms].any()
    assert torch.equal(corrupted.encoded_forces[atoms], data.forces[atoms])
    assert not corrupted.encoded_forces[~atoms].any()
    assert torch.equal(corrupted.energy, data.energy)
    plain = corrupt_batch(data, corruption, config(encode_forces=False))
    assert not plain.encoded_forces.any()
    assert torch.equal(plain.pos, corrupted.pos)


def test_evaluation_refuses_a_batch_with_encoded_forces():
    data = labelled_batch([4, 3])
    corruption = corruption_of(data, torch.tensor([True, True]), torch.ones(7, dtype=torch.bool))
    corrupted, model = corrupt_batch(data, corruption, config()), dens_model()
    with pytest.raises(RuntimeError, match="predictions must not see force labels"):
        model.backbone(corrupted)
    model.eval()(data)
    model.train()(corrupted)
