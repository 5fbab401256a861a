"""What validation and `eqv2 doctor` ask of a model: its noise with encoded forces and without."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dens_inputs import config, corruption_of, labelled_batch
from helpers import BACKBONES, DIRECT_HEADS, flatten, relative_error, slab, tiny_model

from eqv2_plugin.common.findings import Verdict
from eqv2_plugin.dens.corruption import corrupt_batch
from eqv2_plugin.dens.encoding import draw_everywhere, noise_with_and_without
from eqv2_plugin.doctor.denoising import denoiser, encoded_forces
from eqv2_plugin.doctor.examination import Examination, Subject
from eqv2_plugin.inference.predictor import Prediction

HEADS = {**DIRECT_HEADS, "noise_forces": {"module": "eqv2_plugin.heads.forces.NoiseHead"}}
EACH = {options["backbone"].rpartition(".")[2]: options for options in BACKBONES.values()}
NO_DROPOUT = {"alpha_drop": 0.0, "drop_path_rate": 0.0}


@pytest.mark.parametrize("options", EACH.values(), ids=EACH)
def test_the_noise_is_that_of_a_training_step_without_dropout(options):
    if "toy" not in options["backbone"]:
        options = {**options, **NO_DROPOUT}
    model = tiny_model(HEADS, **options, force_encoding=True, force_scale=0.3)
    data = labelled_batch([5, 4])
    corruption = corruption_of(data, torch.tensor([True, True]), torch.arange(9) % 2 == 0)
    found = noise_with_and_without(model, data, corruption, config(encode_forces=False))
    model.train()
    for noise, encode in zip(found, (True, False), strict=True):
        corrupted = corrupt_batch(data, corruption, config(encode_forces=encode))
        trained = flatten(model(corrupted))["noise_forces"]
        assert relative_error(noise, trained) < 1e-12
    assert relative_error(found[0], found[1]) > 1e-3
    assert "encoded_forces" not in data


def test_every_structure_is_corrupted_alike_on_every_call():
    data = labelled_batch([20, 20], fixed=torch.arange(40) < 10)
    settings = config(probability=0.0, corruption_ratio=0.5, max_force_norm=0.0)
    first, again, other = (draw_everywhere(settings, data, seed) for seed in (3, 3, 4))
    assert first.structures.all()
    assert torch.equal(first.noise, again.noise)
    assert not torch.equal(first.noise, other.noise)
    assert not first.atoms[:10].any()
    assert first.atoms[20:].any()


class Predictor:
    """Predicts random forces, and has a model with or without DeNS."""

    task_name = "oc20"

    def __init__(self, **options) -> None:
        model = tiny_model(HEADS if options else None, **options)
        self.unit = SimpleNamespace(model=SimpleNamespace(module=model))

    def __call__(self, structures):
        source = np.random.default_rng(0)
        return [Prediction(0.0, source.normal(size=(len(atoms), 3))) for atoms in structures]

    def data(self, atoms):
        from fairchem.core.datasets.atomic_data import AtomicData

        return AtomicData.from_ase(atoms, task_name="oc20", target_dtype=torch.float64)


def test_a_model_is_asked_on_free_atoms_and_the_same_at_every_call():
    assert denoiser(Predictor()) is None
    denoise = denoiser(Predictor(force_encoding=True))
    structures = [slab(seed) for seed in range(3)]
    for atoms in structures:
        atoms.set_constraint()
    first, again = (denoise(structures, 5) for _ in range(2))
    assert {part.shape for part in first} == {(len(first[0]), 3)}
    assert len(first[0]) > 0
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.abs(first[1] - first[2]).max() > 1e-6


@pytest.mark.parametrize(("gained", "verdict"), [(0.5, Verdict.GOOD), (0.0, Verdict.LOOK)])
def test_doctor_judges_by_what_encoding_gains(gained, verdict):
    def denoise(structures, seed):
        true = np.random.default_rng(seed).normal(size=(200, 3))
        across = np.cross(true, np.random.default_rng(99).normal(size=3))
        across *= np.linalg.norm(true, axis=1, keepdims=True) / np.linalg.norm(
            across, axis=1, keepdims=True
        )
        return true, gained * true + (1 - gained**2) ** 0.5 * across, across

    subject = Subject(Predictor(), "none", None, True, "cpu", denoise=denoise)
    found = encoded_forces(Examination(subject, [slab()], 1e6))
    assert found[0] is verdict
    assert found[2]["cosine_encoded"] == pytest.approx(gained, abs=1e-9)
    assert found[2]["cosine_unencoded"] == pytest.approx(0.0, abs=1e-9)
    assert ("hardly used" in found[1]) is (verdict is Verdict.LOOK)
