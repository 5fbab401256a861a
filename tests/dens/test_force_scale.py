"""The scale of encoded forces: what it does, and where it comes from."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from dens_inputs import config, corruption_of, labelled_batch
from fairchem.core._cli import get_hydra_config_from_yaml
from helpers import BACKBONES, DIRECT_HEADS, flatten, relative_error, tiny_model

from eqv2_plugin.data.datasets import create_datasets
from eqv2_plugin.data.sample import write_ase_db
from eqv2_plugin.dens.checks import check_denoising_data
from eqv2_plugin.dens.corruption import corrupt_batch
from eqv2_plugin.dens.force_scale import resolved_force_scale

CONFIGS = Path(__file__).parents[2] / "configs"
NOISE = {"module": "eqv2_plugin.heads.forces.NoiseHead"}
HEADS = {**DIRECT_HEADS, "noise_forces": NOISE}
READER = {"format": "ase_db", "key_mapping": {"energy": "energy", "forces": "forces"}}
# One variant of every backbone.
EACH = {options["backbone"].rpartition(".")[2]: options for options in BACKBONES.values()}


@pytest.mark.parametrize("options", EACH.values(), ids=EACH)
def test_encoded_forces_are_divided_by_it_and_nothing_else_is(options):
    data = labelled_batch([4, 3])
    corruption = corruption_of(data, torch.tensor([True, True]), torch.arange(7) % 2 == 0)
    batches = corrupt_batch(data, corruption, config()), corrupt_batch(data, corruption, config())
    batches[1].encoded_forces /= 0.04
    scales = ({"force_scale": 0.04}, {})
    outputs = []
    for batch, scale in zip(batches, scales, strict=True):
        model = tiny_model(HEADS, **options, **scale, force_encoding=True).train()
        outputs.append(flatten(model(batch)))
    for name, value in outputs[0].items():
        assert relative_error(value, outputs[1][name]) < 1e-12, name
    unscaled = tiny_model(HEADS, **options, force_encoding=True).train()(batches[0])
    assert relative_error(flatten(unscaled)["noise_forces"], outputs[0]["noise_forces"]) > 1e-3


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_that_is_no_positive_number_is_refused(value):
    message = "force_scale must be a positive number of eV/Å"
    with pytest.raises(ValueError, match=message):
        tiny_model(HEADS, force_encoding=True, force_scale=value)
    with pytest.raises(ValueError, match=message):
        resolved_force_scale(value, {})
    with pytest.raises(ValueError, match=r"force_scale=0\.5 needs force_encoding=true"):
        tiny_model(force_scale=0.5)


def training_set(root: Path, forces: float = 3.0, labelled: bool = True, **splits: float):
    """Config group ``data`` of splits with forces of one size, but for a fixed atom and another."""
    for split, factor in {"train": 1.0, **splits}.items():
        images = []
        for index in range(5):
            # The fixed atom's force, and one far from equilibrium, do not matter.
            sizes = np.array([1e3, 1.0, 1.0, 40.0 if index == 0 else 1.0])
            atoms = Atoms("CuCOH", np.random.default_rng(index).normal(size=(4, 3)))
            atoms.set_constraint(FixAtoms([0]))
            vectors = np.zeros((4, 3))
            vectors[:, index % 3] = forces * factor * sizes
            labels = {"energy": 0.0} | ({"forces": vectors} if labelled else {})
            atoms.calc = SinglePointCalculator(atoms, **labels)
            images.append(atoms)
        (root / split).mkdir()
        write_ase_db(images, root / split)
    sources = {split: {"src": split} for split in ("train", *splits)}
    reader = READER if labelled else {**READER, "key_mapping": {"energy": "energy"}}
    return {
        "name": "mine", "root": str(root), "reader": reader, "how_to_get": "",
        "train_splits": sources,
    }  # fmt: skip


def test_auto_is_a_35th_of_the_median_force_on_free_atoms(tmp_path):
    data = training_set(tmp_path, md=7.0)
    assert resolved_force_scale("auto", data, ["md"]) == pytest.approx(3 / 35, rel=2e-3)
    assert resolved_force_scale("auto", data) == pytest.approx(21 / 35, rel=2e-3)
    assert resolved_force_scale(0.25, {}) == 0.25


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labelled": False}, "frame 0 of mine.train has none"),
        ({"forces": 0.0}, "median .* is 0 eV"),
    ],
    ids=["no labels", "no forces"],
)
def test_auto_needs_labels(tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"force_scale=auto needs force.*{message}"):
        resolved_force_scale("auto", training_set(tmp_path, **changes))


def test_forces_in_another_unit_are_named_before_the_first_step(tmp_path):
    data = training_set(tmp_path, forces=1.5 / 0.0433641153)
    arguments = (data[key] for key in ("name", "root", "train_splits", "reader", "how_to_get"))
    with pytest.raises(ValueError, match=r"labels of mine\.train: median .* kcal/mol/Å"):
        check_denoising_data(create_datasets(*arguments), config())


def test_the_number_itself_is_in_the_configuration(tmp_path):
    data = training_set(tmp_path)
    overrides = [f"data_root={tmp_path}", "data.name=mine", "force_scale=auto"]
    recipe = get_hydra_config_from_yaml(str(CONFIGS / "eqv2_dens_md17.yml"), overrides)
    backbone = recipe.runner.train_eval_unit.model.backbone
    assert backbone.force_scale == resolved_force_scale("auto", data)
    assert 0.08 < backbone.force_scale < 0.09
    with pytest.raises(Exception, match=r"positive number of eV/Å.*got 'atuo'"):
        get_hydra_config_from_yaml(str(CONFIGS / "eqv2_dens_md17.yml"), ["force_scale=atuo"])
