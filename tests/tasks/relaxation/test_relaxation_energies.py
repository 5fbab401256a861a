"""Relaxations of data with another kind of energy say so before the work and in what they leave."""

from __future__ import annotations

import json

import ase.db
import torch
from helpers import job_config
from native_checkpoints import checkpoint
from relaxation_inputs import data_config, surfaces

from eqv2_plugin.tasks.relaxation.runner import BatchedRelaxationRunner


def run(folder, capsys, kind: str | None, per_atom: float, **data) -> tuple[str, dict]:
    """Relax with a model of ``kind``, where DFT's energies are ``per_atom`` (eV) times atoms."""
    made = checkpoint("direct")
    made.model_config["facts"] = None if kind is None else {"energy_kind": kind}
    torch.save(made, folder / "tiny.pt")
    with ase.db.connect(folder / "id.db") as database:
        for sid, atoms in surfaces(2):
            target = {"y_relaxed": per_atom * len(atoms) - 0.7, "pos_relaxed": atoms.positions}
            database.write(atoms, data={"sid": sid, **target})
    runner = BatchedRelaxationRunner(
        str(folder / "tiny.pt"),
        {**data_config(folder / "id.db"), **data},
        settings={"optimizer": "lbfgs", "fmax": 0.5, "steps": 1},
        batch={"structures": 2, "atoms": None},
        results={"dataset": "oc20", "pictures": 0, "facts": {}},
    )
    runner.job_config = job_config(folder)
    runner.run()
    results = folder / "run" / "results"
    assert "eV per atom" in (results / "report.html").read_text() or per_atom == 0.0
    return capsys.readouterr().out, json.loads((results / "metrics.json").read_text())["energy"]


def test_dft_energies_that_are_far_off_are_said_first_and_last(tmp_path, capsys):
    out, energy = run(tmp_path, capsys, "adsorption", -5.0, energy_kind="adsorption")
    (note,) = energy["notes"]
    assert "labels of id by" in note
    assert out.index(f"NOTE: {note}") < out.index("Moving at once")
    assert out.count(f"NOTE: {note}") == 2


def test_energies_that_fit_are_not_worth_a_word(tmp_path, capsys):
    out, energy = run(tmp_path, capsys, "total", 0.0, energy_kind="total")
    assert energy == {"kind": "total", "notes": []}
    assert "kind of energy" not in out


def test_stated_kinds_are_compared(tmp_path, capsys):
    _, energy = run(tmp_path, capsys, "adsorption", 0.0, energy_kind="total")
    assert "holds total energies, but the model predicts adsorption" in energy["notes"][0]
