"""A structure without prediction costs its own row and the submission, not the others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from prediction_inputs import PER_PART, frames, id_of, options, predict, write_data

from eqv2_plugin.common.files import read_npz, save_npz
from eqv2_plugin.inference.parts import load_part
from eqv2_plugin.inference.predictor import BatchPredictor, Prediction
from eqv2_plugin.tasks.s2ef import predicting

SPLITS = {"id": {"src": "id"}, "ood": {"src": "ood"}, "mine": {"src": "mine"}}


def job(folder: Path, model: Path, bad: dict[str, list[int]]) -> tuple[dict, dict[str, list[str]]]:
    """OC22 has two splits; ``bad`` structures have an element that no model knows."""
    ids = {}
    for split in SPLITS:
        atoms = frames("val_id")
        for index in bad.get(split, []):
            atoms[index].numbers[2] = 99
        ids[split] = [id_of(one) for one in atoms]
        write_data(folder / "data" / split, atoms)
    return options(folder / "data", model, SPLITS) | {"dataset": "oc22"}, ids


def metrics(folder: Path) -> dict:
    return json.loads((folder / "results" / "metrics.json").read_text())


def test_the_others_are_written_and_the_submission_is_not(tmp_path, model, capsys):
    made, ids = job(tmp_path, model, {"ood": [1, 5]})
    first, second = ids["ood"][1], ids["ood"][5]
    with pytest.raises(ValueError, match=rf"^{first}: .* contains Es .*atom 2.*and 1 more"):
        predict(tmp_path, made)
    results = tmp_path / "results"
    assert set(read_npz(results / "ood.npz")["ids"]) == set(ids["ood"]) - {first, second}
    assert set(read_npz(results / "id.npz")["ids"]) == set(ids["id"])
    assert not (results / "submission.npz").exists()
    said = capsys.readouterr().out
    assert f"No submission file: 2 structure(s) would be missing in it: {first}, {second}" in said
    found = metrics(tmp_path)["splits"]
    assert (found["ood"]["structures"], found["ood"]["failed"]) == (5, 2)
    assert "failed" not in found["id"]
    assert "contains Es" in found["ood"]["failures"][first]
    assert found["ood"]["energy_mae_meV"] > 0  # of the others


def test_the_same_command_tries_no_failed_structure_again(tmp_path, model, monkeypatch):
    made, ids = job(tmp_path, model, {"ood": [1]})
    for _ in range(2):
        with pytest.raises(ValueError, match=f"^{ids['ood'][1]}: "):
            predict(tmp_path, made)
        monkeypatch.setattr(predicting, "predict_items", None)


def test_a_split_that_is_no_part_of_the_submission_does_not_hinder_it(tmp_path, model):
    made, ids = job(tmp_path, model, {"mine": [0]})
    with pytest.raises(ValueError, match=f"^{ids['mine'][0]}: "):
        predict(tmp_path, made)
    assert (tmp_path / "results" / "submission.npz").exists()
    assert set(metrics(tmp_path)["files"].values()) == {"ok"}


def test_a_prediction_that_is_not_finite_fails_alone(tmp_path, model, monkeypatch):
    made, ids = job(tmp_path, model, {})
    whole = BatchPredictor.__call__

    def odd(self, structures):
        found = whole(self, structures)
        return [
            Prediction(np.nan, p.forces) if np.array_equal(a.positions, bad.positions) else p
            for a, p in zip(structures, found, strict=True)
        ]

    bad = frames("val_id")[4]
    monkeypatch.setattr(BatchPredictor, "__call__", odd)
    with pytest.raises(ValueError, match=f"^{ids['id'][4]}: its prediction is NaN, infinite"):
        predict(tmp_path, made)
    assert len(read_npz(tmp_path / "results" / "id.npz")["ids"]) == len(ids["id"]) - 1


def test_a_last_part_that_fails_as_a_whole_is_kept(tmp_path, model):
    made, ids = job(tmp_path, model, {"id": [6]})
    assert len(ids["id"]) == 2 * PER_PART + 1
    with pytest.raises(ValueError, match=f"^{ids['id'][6]}: "):
        predict(tmp_path, made)
    assert set(read_npz(tmp_path / "results" / "id.npz")["ids"]) == set(ids["id"][:6])


def test_parts_of_earlier_versions_have_no_failures(tmp_path):
    arrays = {
        "ids": np.array(["1_2", "1_3"]),
        "energy": np.zeros(2),
        "forces": np.zeros((3, 3)),
        "free": np.array([1, 2]),
        "metrics": np.array([], dtype=str),
        "sums": np.zeros((0, 2)),
    }
    save_npz(tmp_path / "00000.npz", arrays)
    assert load_part(tmp_path / "00000.npz", 2).failed == []
