"""Whole fine-tuning runs in processes of their own, as a user starts them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from fairchem.core.units.mlip_unit.utils import load_tasks
from launches import launch
from training_runs import assert_same_weights, attempt, history, run, run_and_kill, weights

from eqv2_plugin.data.sample import write_ase_db

pytestmark = pytest.mark.slow
FINETUNE = "eqv2_finetune"


def dens(path: Path) -> list[str]:
    """DeNS on a frozen backbone that has no force embedding yet."""
    return [f"checkpoint={path}", "finetune/training=dens", "freeze_backbone=true"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache, start) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("runs")
    return folder / "sample", run(folder, cache, *dens(start[0]), config=FINETUNE)


def test_frozen_parameters_stay_bit_equal_and_the_others_move(finished, start):
    found = weights(finished[0])
    same = {
        name
        for name, value in start[1].items()
        if torch.equal(found[f"model.{name}"], value)
        and torch.equal(found[f"ema.module.{name}"], value)
    }
    assert {n for n in start[1] if n.startswith("backbone.")} <= same
    moved = {n.rsplit(".", 1)[0] for n in set(start[1]) - same}
    assert any(name.startswith("output_heads.forces.") for name in moved)
    assert any(name.startswith("output_heads.energy.") for name in moved)
    added = found["model.backbone.force_embedding.linear.bias"]
    assert added.abs().max() > 0


def test_the_first_record_is_the_starting_model_and_the_factor_is_printed(finished):
    folder, out = finished
    records = history(folder)
    assert [record["step"] for record in records] == list(range(0, 13, 3))
    assert "losses" not in records[0]
    metrics = json.loads((folder / "results" / "metrics.json").read_text())
    assert metrics["at_start"] == records[0]["splits"]
    old, new = (m["val"]["forces_mae_meV_per_A"] for m in (metrics["at_start"], metrics["splits"]))
    assert f"val: force MAE {old:.1f} -> {new:.1f} meV/Å: " in out
    assert metrics["facts"]["frozen backbone"] is True


def test_a_killed_run_resumes_and_ends_with_the_same_bits(finished, cache, start, tmp_path):
    whole, _ = finished
    run_and_kill(tmp_path, cache, *dens(start[0]), config=FINETUNE, step=10)
    assert "Resuming the run" in run(tmp_path, cache, *dens(start[0]), config=FINETUNE)
    assert_same_weights(whole, tmp_path / "sample")


def test_energies_alone_train_without_forces(cache, start, tmp_path):
    folder = tmp_path / "sample"
    options = (f"checkpoint={start[0]}", "finetune/labels=energy", "epochs=1")
    out = run(tmp_path, cache, *options, config=FINETUNE)
    found = weights(folder)
    assert not any("output_heads.forces" in name for name in found)
    name = "backbone.atom_embedding.weight"
    assert not torch.equal(found[f"model.{name}"], start[1][name])
    metrics = json.loads((folder / "results" / "metrics.json").read_text())
    assert not any("force" in key for key in metrics["splits"]["val"])
    assert "val: energy MAE" in out
    assert "force MAE" not in out
    assert not (folder / "results" / "parity_forces.png").exists()


def write_own_data(folder: Path) -> None:
    """Frames with stress, a file of references and one of normalisers, as a user has them."""
    source = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        frames = []
        for index in range(count):
            atoms = Atoms("CuCO", source.normal(scale=1.5, size=(3, 3)), cell=[7, 7, 7], pbc=True)
            labels = {"forces": source.normal(size=(3, 3)), "stress": 0.01 * source.normal(size=6)}
            atoms.calc = SinglePointCalculator(atoms, energy=-17.0 + source.normal(), **labels)
            atoms.info = {"sid": f"{split}{index}"}
            frames.append(atoms)
        (folder / split).mkdir(parents=True)
        write_ase_db(frames, folder / split)
    coefficients = np.full(100, np.nan)
    coefficients[[6, 8, 29]] = -7.0, -6.5, -3.5
    np.savez(folder / "refs.npz", coeff=coefficients, atoms=np.ones(100))
    scale = {"mean": 0.0, "rmsd": 1.0}
    blocks = {f"{label}_normalizer": scale for label in ("energy", "force", "stress")}
    (folder / "norm.yaml").write_text(yaml.safe_dump(blocks))


def test_own_frames_with_stress_references_and_normalisers(cache, start, tmp_path):
    write_own_data(tmp_path / "data")
    settings = [
        f"run_dir={tmp_path}", "run_name=sample", "job.device_type=CPU", f"checkpoint={start[0]}",
        "data=finetune", f"data_root={tmp_path / 'data'}", "epochs=1", "new_heads=[stress]",
        "finetune/labels=energy_forces_stress", f"references={tmp_path / 'data' / 'refs.npz'}",
        f"normalizer={tmp_path / 'data' / 'norm.yaml'}",
    ]  # fmt: skip
    done = launch(FINETUNE, settings, EQV2_CACHE=cache)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "val: stress MAE" in done.stdout
    first = history(tmp_path / "sample")[0]["splits"]["val"]
    assert {"energy_mae_meV", "forces_mae_meV_per_A", "stress_mae_meV_per_A3"} <= set(first)
    # The references travel as numbers.
    (tmp_path / "data" / "refs.npz").unlink()
    path = tmp_path / "sample" / "results" / "inference_ckpt.pt"
    energy = next(task for task in load_tasks(str(path)) if task.name == "energy")
    assert energy.element_references.element_references[29] == -3.5


def test_a_force_head_that_nothing_trains_is_refused(cache, start, tmp_path):
    options = (f"checkpoint={start[0]}", "finetune/labels=energy", "heads=direct")
    done = attempt(tmp_path, cache, *options, config=FINETUNE)
    assert done.returncode != 0
    assert "head(s) ['forces'] have no task" in done.stderr
