"""Two data sets, one with stress and one without, become one model by one command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import read, write
from fairchem.core import FAIRChemCalculator
from launches import launch, launch_and_kill
from training_runs import assert_same_weights, history

from eqv2_plugin.cli import main

TINY = [
    "size=tiny", "epochs=2", "batch_size=4", "model.backbone.sphere_channels=8",
    "model.backbone.num_layers=1", "model.backbone.edge_channels=8", "checkpoint_every_n_steps=3",
    "model.backbone.alpha_drop=0.1", "job.device_type=CPU", "num_workers=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    crystals, molecules = [], []
    for i in range(10):
        crystals.append(bulk(["Cu", "Au"][i % 2], cubic=True))
        molecules.append(Atoms(["CO", "OCO"][i % 2]))
        molecules[-1].positions[:, 2] = 1.2 * np.arange(len(molecules[-1]))
    for atoms in (*crystals, *molecules):
        atoms.rattle(0.08, rng=rng)
        atoms.calc = EMT()
        atoms.get_potential_energy()
        atoms.get_forces()
        if atoms.pbc.all():
            atoms.get_stress()
    write(folder / "crystals.extxyz", crystals)
    write(folder / "molecules.extxyz", molecules)
    return folder


def command(files: Path, folder: Path) -> list[str]:
    sets = f"pbe: '{files / 'crystals.extxyz'}', hybrid: '{files / 'molecules.extxyz'}'"
    return [f"sets={{{sets}}}", f"run_dir={folder}", "run_name=both", *TINY]


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory) -> tuple[Path, str]:
    """The run's folder, and what was printed."""
    folder = tmp_path_factory.mktemp("runs")
    done = launch("eqv2_train_several", command(files, folder))
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "both", done.stdout


@pytest.mark.slow
def test_metrics_and_predictions_are_of_each_data_set(files, trained, capsys):
    folder, said = trained
    model = folder / "results" / "inference_ckpt.pt"
    metrics = json.loads((folder / "results" / "metrics.json").read_text())
    assert metrics["data_sets"] == ["hybrid", "pbe"]
    assert sorted(metrics["splits"]) == ["hybrid.val", "pbe.val"]
    assert "stress_mae_meV_per_A3" in metrics["splits"]["pbe.val"]
    assert "stress_mae_meV_per_A3" not in metrics["splits"]["hybrid.val"]
    assert 'task_name="hybrid"' in said
    for name, file in (("pbe", "crystals"), ("hybrid", "molecules")):
        calculator = FAIRChemCalculator.from_model_checkpoint(
            str(model), task_name=name, inference_settings="batch"
        )
        frames = read(files / f"{file}.extxyz", ":")
        validated = read_validated(folder, name)
        errors = []
        for atoms in (frames[i] for i in validated):
            wanted, atoms.calc = atoms.get_potential_energy(), calculator
            errors.append(abs(atoms.get_potential_energy() - wanted))
        found = metrics["splits"][f"{name}.val"]
        assert len(errors) == found["frames"]
        assert 1e3 * np.mean(errors) == pytest.approx(found["energy_mae_meV"], rel=1e-3)
    out = folder / "table.csv"
    assert main(["predict", str(model), str(files / "molecules.extxyz"), "--out", str(out)]) == 1
    assert "trained on hybrid, pbe: choose one with --task" in capsys.readouterr().err
    arguments = ["predict", str(model), str(files / "molecules.extxyz"), "--task", "hybrid"]
    assert main([*arguments, "--out", str(out)]) == 0
    assert main(["info", str(model)]) == 0
    assert "(task_name pbe)" in capsys.readouterr().out


def read_validated(folder: Path, name: str) -> list[int]:
    """Places of the frames that were held out, in their file."""
    from eqv2_plugin.data.structures import open_structures

    held = open_structures({"format": "ase_db", "src": str(folder / "data" / name / "val")})
    return [int(atoms.info["fid"]) for atoms in held]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(files, trained, tmp_path):
    checkpoint = tmp_path / "both" / "checkpoints" / "step_3" / "inference_ckpt.pt"
    launch_and_kill("eqv2_train_several", command(files, tmp_path), checkpoint.exists)
    done = launch("eqv2_train_several", command(files, tmp_path))
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Resuming" in done.stdout
    assert_same_weights(trained[0], tmp_path / "both")
    assert history(trained[0]) == history(tmp_path / "both")
