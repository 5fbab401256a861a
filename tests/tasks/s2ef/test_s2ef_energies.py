"""Predictions of data with another kind of energy say so before the work and in what they leave."""

from __future__ import annotations

import json

import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from prediction_inputs import frames, options, predict, write_data, write_model

SPLITS = {"id": {"src": "id"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The sample's frames, and the same with energies as large as total ones."""
    folder = tmp_path_factory.mktemp("data")
    write_data(folder / "adsorption" / "id", frames("val_id"))
    totals = frames("val_id")
    for atoms in totals:
        energy, forces = atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)
        atoms.calc = SinglePointCalculator(atoms, energy=energy - 5.0 * len(atoms), forces=forces)
    write_data(folder / "total" / "id", totals)
    return folder


def run(folder, tmp_path, data: str, capsys, kind=None, stated=None) -> tuple[str, dict]:
    def change(made):
        made.model_config["facts"] = None if kind is None else {"energy_kind": kind}

    made = options(folder / data, write_model(tmp_path / "model.pt", change), SPLITS)
    made["data"] |= {} if stated is None else {"energy_kind": stated}
    predict(tmp_path, made)
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    return capsys.readouterr().out, metrics["energy"]


def test_labels_that_are_far_off_are_said_first_and_last(folder, tmp_path, capsys):
    out, energy = run(folder, tmp_path, "total", capsys)
    (note,) = energy["notes"]
    assert "labels of id by" in note
    assert out.count(f"NOTE: {note}") == 2
    assert out.index("NOTE: ") < out.index("structures in")
    assert (energy["kind"], energy["data_kind"]) == ("unknown", "unknown")


def test_stated_kinds_are_compared(folder, tmp_path, capsys):
    _, energy = run(folder, tmp_path, "total", capsys, "adsorption", "total")
    assert "the data holds total energies, but the model predicts adsorption" in energy["notes"][0]
    assert (energy["kind"], energy["data_kind"]) == ("adsorption", "total")
