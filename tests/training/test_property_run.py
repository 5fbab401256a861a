"""A number per structure that is no energy becomes a model by the same command as energies."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write
from launches import launch
from recipes import composed

from eqv2_plugin.checkpoints.door import open_model
from eqv2_plugin.cli import main
from eqv2_plugin.training.target import own_source, own_wanted, scalar_scale

SMALL = [
    "size=tiny", "model.backbone.sphere_channels=8",
    "model.backbone.num_layers=1", "model.backbone.edge_channels=8",
]  # fmt: skip


def gap(atoms: Atoms) -> float:
    """Intensive: the share of oxygen, and how far the atoms are apart."""
    return 3.0 + float((atoms.numbers == 8).mean()) + 0.5 * float(atoms.get_all_distances().mean())


def clusters(count: int, seed: int) -> list[Atoms]:
    """With a gap and a volume-like sum; every tenth has neither."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        atoms = Atoms(["Cu2O", "CuO", "Cu3O", "Cu2O2", "Cu4"][i % 5])
        atoms.positions = 2.0 * np.arange(len(atoms))[:, None] * np.eye(3)[i % 3]
        atoms.positions += 0.3 * rng.normal(size=(len(atoms), 3))
        if i % 10:
            atoms.info["gap"] = gap(atoms)
            atoms.info["volume"] = float((2.0 + (atoms.numbers == 29)).sum())
        made.append(atoms)
    return made


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    """Sixty clusters, and thirty others beside them."""
    folder = tmp_path_factory.mktemp("property")
    write(folder / "mine.extxyz", clusters(60, seed=0))
    write(folder / "others.extxyz", clusters(30, seed=1))
    return folder / "mine.extxyz"


def model_of(frames: Path, *options: str):
    run = frames.parent / f"runs{len(list(frames.parent.glob('runs*')))}"
    config = composed("eqv2_train", f"train={frames}", f"run_dir={run}", *options)
    return config.runner.train_eval_unit


@pytest.mark.parametrize(
    ("options", "kind", "references"),
    [
        (["target_key=gap"], "intensive", False),
        (["target_key=volume", "target_kind=extensive"], "extensive", True),
        (["target_key=volume", "target_kind=extensive", "references=none"], "extensive", False),
    ],
)
def test_the_recipe_follows_from_the_property(frames, capsys, options, kind, references):
    unit = model_of(frames, *options)
    assert [task.name for task in unit.tasks] == ["scalar"]
    (task,) = unit.tasks
    assert (task.element_references is not None) == references
    name = options[0].removeprefix("target_key=")
    assert (unit.model.facts.target, unit.model.facts.target_kind) == (name, kind)
    assert unit.model.heads.scalar.kind == kind
    assert unit.model.backbone.direct_forces
    said = capsys.readouterr().out
    assert f"property: {name!r}, trained alone" in said
    assert "left out: 6 frame(s)" in said
    if kind == "intensive":
        assert 3.0 < task.normalizer.mean < 6.0
        assert 0.0 < task.normalizer.rmsd < 2.0
    if references:  # the sum is what the references say
        found = task.element_references["values"]
        assert found["Cu"] - found["O"] == pytest.approx(1.0, abs=0.05)
        assert task.normalizer.mean == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["target_key=bandgap"], r"target_key=bandgap: no frame stores that; .*gap, volume"),
        (["target_key=gap", "target_kind=intens"], r"target_kind=intens.*intensive"),
        (["target_key=gap", "labels=energy"], "leave out labels=energy"),
        (["target_key=gap", "references=fit"], r"not: leave them out, or .*target_kind=extensive"),
        (["target_key=gap", "training=dens"], "training=plain"),
        (["labels=scalar"], "target_key=NAME"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_a_sentence(frames, options, message):
    with pytest.raises(Exception, match=message):
        _ = model_of(frames, *options).tasks


def test_scales_are_those_of_the_numbers():
    fitted = {"references": None, "energy_mean": 2.5, "energy_rmsd": 0.25}
    assert (scalar_scale("mean", fitted), scalar_scale("rmsd", fitted)) == (2.5, 0.25)
    assert scalar_scale("mean", {**fitted, "references": {"H": 1.0}}) == 0.0
    assert own_source("gap", "extensive", "old.pt") == "fit"
    assert own_wanted(None, None, "intensive", "checkpoint", "dens") is None


@pytest.mark.slow
def test_from_a_file_to_a_table_of_predictions(frames, tmp_path):
    """Trained, reported, predicted; and the model taken over by another run."""
    data = [f"train={frames}", f"val={frames.parent / 'others.extxyz'}", "target_key=gap"]
    given = [*data, f"run_dir={tmp_path / 'runs'}", "job.device_type=CPU"]
    done = launch("eqv2_train", [*given, "epochs=40", *SMALL])
    assert done.returncode == 0, done.stderr[-4000:]
    (run,) = (tmp_path / "runs").iterdir()
    model = run / "results" / "inference_ckpt.pt"
    metrics = json.loads((run / "results" / "metrics.json").read_text())
    found = metrics["splits"]["val"]
    assert found["scalar_rmse"] < 0.8 * found["scalar_std"]
    assert found["scalar_mae"] < metrics["at_start"]["val"]["scalar_mae"]
    for name in ("learning_curve.png", "parity_scalar.png"):
        assert (run / "results" / name).is_file()
    assert "of gap" in done.stdout
    assert f"Use it: eqv2 predict {model}" in done.stdout
    unit = open_model(model, "cpu", "batch")
    assert [task.property for task in unit.dataset_to_tasks["own"]] == ["scalar"]
    out = tmp_path / "table.csv"
    others = str(frames.parent / "others.extxyz")
    assert main(["predict", str(model), others, "--out", str(out)]) == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    errors = [float(row["error"]) for row in rows if row["error"]]
    assert (len(rows), len(errors)) == (30, 27)
    assert np.abs(errors).mean() == pytest.approx(found["scalar_mae"], rel=1e-3)
    done = launch("eqv2_train", [*given, f"checkpoint={model}", "epochs=1", "run_name=again"])
    assert done.returncode == 0, done.stderr[-4000:]
