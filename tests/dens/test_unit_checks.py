"""The DeNS unit refuses what it cannot train, and draws the same for the same step."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from dens_inputs import config, corruption_of, labelled_batch, tasks
from fairchem.core.common import distutils
from fairchem.core.modules.loss import DDPMTLoss, L2NormLoss
from helpers import DIRECT_HEADS, tiny_model
from test_algorithm2 import scenario

from eqv2_plugin.dens.batch import corrupt_batch
from eqv2_plugin.dens.checks import check_denoising_batch, check_denoising_tasks
from eqv2_plugin.dens.unit import EquiformerV2DeNSUnit

NOISE = {"module": "eqv2_plugin.heads.forces.NoiseHead"}
HEADS = {**DIRECT_HEADS, "noise_forces": NOISE}


def dens_model(heads=HEADS, force_encoding=True, **options):
    return tiny_model(heads, force_encoding=force_encoding, num_layers=1, **options)


def draw(data, step=0, seed=0, **options):
    unit = SimpleNamespace(job_config=SimpleNamespace(seed=seed), denoising=config(**options))
    return EquiformerV2DeNSUnit.draw(unit, data, step)


def same(one, other) -> bool:
    return torch.equal(one.noise, other.noise) and torch.equal(one.structures, other.structures)


def test_the_tasks_heads_and_backbone_of_the_recipe_are_accepted():
    check_denoising_tasks(tasks(), dens_model(), config())


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


def test_a_missing_noise_head_is_named():
    with pytest.raises(ValueError, match=r"needs a head 'noise_forces' .*'energy', 'forces'"):
        check_denoising_tasks(tasks(), dens_model(DIRECT_HEADS), config())


def test_a_backbone_without_force_encoding_is_refused():
    with pytest.raises(ValueError, match="needs force_encoding=true on the backbone"):
        check_denoising_tasks(tasks(), dens_model(force_encoding=False), config())


def test_a_schedule_of_sigma_without_its_encoding_is_refused():
    schedule = config(sigma_low=0.01)
    with pytest.raises(ValueError, match=r"set model\.backbone\.sigma_encoding=true"):
        check_denoising_tasks(tasks(), dens_model(), schedule)
    check_denoising_tasks(tasks(), dens_model(sigma_encoding=True), schedule)


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
        draw(data)


def test_an_energy_that_is_not_finite_is_refused():
    data = labelled_batch([2, 3])
    data.energy[1] = torch.nan
    with pytest.raises(ValueError, match=r"energy of structure 1 \('frame 1'\) of the batch"):
        draw(data)


def test_structures_of_excluded_splits_are_never_corrupted():
    data = labelled_batch([2, 3, 1])
    data.dataset_name = ["oc20.train", "oc20.md", "oc20.mdx"]
    drawn = draw(data, exclude_splits=["md"], probability=1.0, corruption_ratio=1.0)
    assert drawn.structures.tolist() == [True, False, True]


def test_draws_are_keyed_by_seed_rank_and_step(monkeypatch):
    data = labelled_batch([4] * 10)
    first = draw(data, step=7, seed=3)
    assert same(first, draw(data, step=7, seed=3))
    assert not same(first, draw(data, step=8, seed=3))
    assert not same(first, draw(data, step=7, seed=4))
    monkeypatch.setattr(distutils, "get_rank", lambda: 1)
    assert not same(first, draw(data, step=7, seed=3))
    assert same(draw(data, step=7, seed=3), draw(data, step=7, seed=3))


def test_a_draw_neither_reads_nor_advances_the_global_random_state():
    data = labelled_batch([4] * 10)
    torch.manual_seed(0)
    before, first = torch.get_rng_state(), draw(data)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(1)
    assert same(first, draw(data))


def test_fixed_atoms_are_never_drawn_by_the_unit():
    data = labelled_batch([3, 3], torch.tensor([1, 0, 2, 0, 0, 1]))
    drawn = draw(data, probability=1.0, corruption_ratio=1.0)
    assert drawn.atoms.tolist() == [False, True, False, True, True, False]


@pytest.mark.parametrize(("max_steps", "max_epochs", "total"), [(12, None, 12), (None, 3, 15)])
def test_the_length_of_the_training_is_that_of_steps_or_epochs(max_steps, max_epochs, total):
    train = SimpleNamespace(max_steps=max_steps, max_epochs=max_epochs, dataloader=range(5))
    state = SimpleNamespace(train_state=train)
    assert EquiformerV2DeNSUnit._total_steps(None, state) == total


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
