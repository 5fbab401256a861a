"""What the recipe of several data sets makes of the option ``sets``, and of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from finetuning_inputs import write_start
from helpers import CONSERVATIVE
from omegaconf import OmegaConf
from recipes import composed

from eqv2_plugin.data.own.several import set_options
from eqv2_plugin.training.finetuning import starting_model
from eqv2_plugin.training.label_guard import LabelGuard
from eqv2_plugin.training.label_guards import LabelGuards
from eqv2_plugin.training.start import read_start

NAMES = ("pbe", "hybrid")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """Crystals with stress, and molecules whose energies are on another level."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for name in NAMES:
        frames = []
        for i in range(12):
            if name == "pbe":
                atoms, energy = bulk(["Cu", "Au"][i % 2], cubic=True), -14.0
            else:
                atoms, energy = Atoms("CO", [[0, 0, 0], [0, 0, 1.2]]), -3079.0
            atoms.rattle(0.1, rng=rng)
            labels = {"energy": energy + rng.normal(), "forces": rng.normal(size=(len(atoms), 3))}
            if name == "pbe":
                labels["stress"] = 0.01 * rng.normal(size=6)
            atoms.calc = SinglePointCalculator(atoms, **labels)
            frames.append(atoms)
        write(folder / f"{name}.extxyz", frames)
    return folder


def config(files: Path, folder: Path, *more: str, pbe: str = "", hybrid: str = ""):
    sets = ", ".join(
        f"{name}: {{train: '{files / name}.extxyz'{added and ', ' + added}}}"
        for name, added in (("pbe", pbe), ("hybrid", hybrid))
    )
    return composed("eqv2_train_several", f"sets={{{sets}}}", f"run_dir={folder}", *more)


def tasks(config) -> dict[str, dict]:
    return {task.name: task for task in config.runner.train_eval_unit.tasks}


def test_each_data_set_has_its_own_tasks_heads_scales_and_references(files, tmp_path):
    found = config(files, tmp_path, hybrid="repeats: 3, weight: 0.5")
    made = tasks(found)
    assert list(made) == [
        "pbe_energy", "pbe_forces", "pbe_stress", "hybrid_energy", "hybrid_forces",
    ]  # fmt: skip
    assert all(list(task.datasets) == [name.split("_")[0]] for name, task in made.items())
    for name in NAMES:
        # Forces that are gradients have their energy's scale.
        scale, other = (made[f"{name}_{label}"].normalizer.rmsd for label in ("energy", "forces"))
        assert scale == other == found.own.data.sets[name].force_rms
    assert set(made["hybrid_energy"].element_references["values"]) == {"C", "O"}
    assert set(made["pbe_energy"].element_references["values"]) == {"Cu", "Au"}
    assert made["hybrid_forces"].loss_fn.coefficient == 0.5 * made["pbe_forces"].loss_fn.coefficient
    model = found.runner.train_eval_unit.model
    assert {name: head.dataset for name, head in model.heads.items()} == {n: n for n in NAMES}
    assert model.backbone.regress_stress
    sets = found.runner.train_dataloader.dataset.sets
    assert sets.hybrid.repeats == 3
    assert dict(sets.hybrid.reader.key_mapping) == {
        "energy": "hybrid_energy", "forces": "hybrid_forces",
    }  # fmt: skip
    assert found.runner.eval_dataloader.dataset.sets.hybrid.repeats == 1
    assert found.own.data.frames == sum(
        found.own.data.sets[name].frames * times for name, times in (("pbe", 1), ("hybrid", 3))
    )


def test_direct_heads_are_one_for_each_label(files, tmp_path):
    found = config(files, tmp_path, "heads=direct", pbe="labels: energy")
    assert sorted(found.model.heads) == ["hybrid_energy", "hybrid_forces", "pbe_energy"]
    assert not found.model.backbone.regress_stress
    assert list(tasks(found)) == ["pbe_energy", "hybrid_energy", "hybrid_forces"]


def test_energies_alone_have_forces_for_predictions(files, tmp_path):
    made = tasks(config(files, tmp_path, pbe="labels: energy"))
    forces = made["pbe_forces"]
    assert forces.inference_only
    assert forces.normalizer.rmsd == made["pbe_energy"].normalizer.rmsd


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"a": "a.xyz"}, "two data sets or more.*eqv2_train.yml"),
        ("a.xyz", "two data sets or more"),
        ({"a": "a.xyz", "b.c": "b.xyz"}, "'b.c' needs another name"),
        ({"a": "a.xyz", "my_stress": "b.xyz"}, "takes labels with 'stress'"),
        ({"a": "a.xyz", "b": {"trian": "b.xyz"}}, "data set b has no option 'trian'.*'train'"),
        ({"a": "a.xyz", "b": {"val": "b.xyz"}}, "data set b needs a value for train"),
        ({"a": "a.xyz", "b": {"train": "b", "labels": "all"}}, "labels must be one of"),
        ({"a": "a.xyz", "b": {"train": "b", "repeats": 0}}, "repeats=0 must be"),
        ({"a": "a.xyz", "b": {"train": "b", "weight": -1}}, "weight=-1 must be"),
        ({"a": "a.xyz", "b": {"train": "b", "weight": "high"}}, "weight must be of type float"),
    ],
)
def test_what_sets_cannot_be_is_refused(sets, message):
    with pytest.raises(ValueError, match=message):
        set_options(sets)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"more": ["training=dens"]}, "training=dens is for one data set"),
        ({"hybrid": "energy_key: gone"}, "data set hybrid: .*gone"),
        ({"hybrid": "references: checkpoint"}, "needs a checkpoint"),
    ],
    ids=str,
)
def test_mistakes_name_the_data_set(files, tmp_path, changes, message):
    found = config(files, tmp_path, *changes.pop("more", []), **changes)
    with pytest.raises(Exception, match=message):
        tasks(found)


def test_every_head_begins_with_the_checkpoints_weights(tmp_path):
    path = tmp_path / "start.pt"
    ema = write_start(path, {"gradient": CONSERVATIVE}, direct_forces=False)
    heads = {name: {**CONSERVATIVE, "dataset": name} for name in NAMES}
    model = starting_model(str(path), {}, OmegaConf.create(heads))
    assert [head.dataset for head in model.output_heads.values()] == sorted(NAMES)
    for key, value in model.state_dict().items():
        old = key.replace(".pbe.", ".gradient.").replace(".hybrid.", ".gradient.")
        assert torch.equal(value, ema[old])
    # What fairchem keeps of the model makes it again.
    kept = model.finetune_model_full_config["heads"]
    assert {name: head["dataset"] for name, head in kept.items()} == {n: n for n in NAMES}


def test_references_of_a_run_from_a_checkpoint_make_its_predictions_those_labels(files, tmp_path):
    path = tmp_path / "start.pt"
    write_start(path, {"gradient": CONSERVATIVE}, direct_forces=False)
    found = config(files, tmp_path / "runs", f"checkpoint={path}", hybrid="references: fit")
    assert found.runner.label_guard.references == {"pbe": "refit", "hybrid": "fit"}
    made = tasks(found)
    written = {name: made[f"{name}_energy"].element_references["values"] for name in NAMES}
    fitted = {name: found.own.data.sets[name].references for name in NAMES}
    assert dict(written["hybrid"]) == dict(fitted["hybrid"])
    assert written["pbe"].keys() == fitted["pbe"].keys()
    assert written["pbe"]["Cu"] != fitted["pbe"]["Cu"]
    assert {task.normalizer.rmsd for task in made.values()} == {2.0}


def test_no_run_starts_from_a_checkpoint_of_several(tmp_path):
    path = tmp_path / "start.pt"
    write_start(path)
    content = torch.load(path, weights_only=False)
    content.tasks_config.append({**content.tasks_config[0], "name": "b_energy", "datasets": ["b"]})
    torch.save(content, path)
    assert read_start(path).task("forces")["name"] == "forces"
    with pytest.raises(ValueError, match=r"several data sets \(oc20, b\)"):
        read_start(path).task("energy")


def test_labels_of_each_data_set_are_compared(monkeypatch):
    from types import SimpleNamespace

    seen = []

    def check(guard, datasets):
        seen.append(datasets.dataset_names)
        if datasets.dataset_names == ["hybrid.train"]:
            raise ValueError("they are in kcal/mol")

    monkeypatch.setattr(LabelGuard, "check", check)
    data = SimpleNamespace(dataset_names=["hybrid.train", "pbe.train"], datasets=[[1], [2]])
    guards = LabelGuards("CKPT.pt", {"pbe": "checkpoint", "hybrid": "fit"})
    with pytest.raises(ValueError, match="data set hybrid: they are in kcal"):
        guards.check(data)
    assert seen == [["pbe.train"], ["hybrid.train"]]
