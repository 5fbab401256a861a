"""Predictions of whole splits are those of fairchem's calculator, whoever computes them."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from fairchem.core import FAIRChemCalculator
from fairchem.core.modules.evaluator import Evaluator
from fairchem.core.units.mlip_unit import load_predict_unit
from prediction_inputs import (
    frames,
    id_of,
    predict,
    results,
    settings,
    write_data,
)

from eqv2_plugin.checkpoints.door import export_native
from eqv2_plugin.common.files import read_npz
from eqv2_plugin.inference.parts import cut, load_part, part_file
from eqv2_plugin.tasks.s2ef.reading import batches_by_size
from eqv2_plugin.tasks.submission.check import check_submission, expected_rows


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_numbers_are_those_of_the_calculator(made, tmp_path, precision):
    data = made["data"] | {"splits": {"id": {"src": "id"}}}
    predict(tmp_path, made | {"data": data}, inference_settings=settings(precision))
    unit = load_predict_unit(made["checkpoint"], settings(precision), device="cpu")
    calculator = FAIRChemCalculator(unit)
    tolerance = {"float32": 2e-5, "float64": 1e-11}[precision]
    parts = tmp_path / "results" / "parts"
    found = [load_part(part_file(parts, p), len(p)) for p in cut("id", len(frames("val_id")), 3)]
    ids = [str(one) for part in found for one in part.ids]
    energies = np.concatenate([part.energy for part in found])
    forces = np.split(
        np.concatenate([part.forces for part in found]),
        np.cumsum(np.concatenate([part.free for part in found]))[:-1],
    )
    for i, atoms in enumerate(frames("val_id")):
        fixed = atoms.constraints[0].index
        atoms.calc = calculator
        assert ids[i] == id_of(atoms)
        assert energies[i] == pytest.approx(atoms.get_potential_energy(), abs=tolerance)
        expected = np.delete(atoms.get_forces(apply_constraint=False), fixed, axis=0)
        assert forces[i].dtype == np.dtype(precision)
        np.testing.assert_allclose(forces[i], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dataset", ["oc20", "oc22"])
def test_files_pass_the_check_against_their_data(made, whole, tmp_path, dataset):
    if dataset == "oc20":
        splits = {name: {"src": "id"} for name in ("id", "ood_ads", "ood_cat", "ood_both")}
        made = made | {"dataset": "oc20", "data": made["data"] | {"splits": splits}}
        predict(tmp_path, made)
        whole = tmp_path
    root = Path(made["data"]["root"])
    data = {
        split: lambda task, src=options["src"]: expected_rows(root / src, task)
        for split, options in made["data"]["splits"].items()
    }
    found = check_submission(whole / "results" / "submission.npz", data=data)
    assert [line.text for line in found if line.verdict != "ok"] == []
    assert sum("against the data" in line.check for line in found) == len(data)
    kind = {"oc20": np.float16, "oc22": np.float32}[dataset]
    assert read_npz(whole / "results" / "id.npz")["forces"].dtype == kind


def test_metrics_are_those_of_all_structures_at_once(made, whole):
    report = json.loads((whole / "results" / "metrics.json").read_text())
    stored = read_npz(whole / "results" / "ood.npz")
    parts = np.split(stored["forces"].astype(float), stored["chunk_idx"])
    known = {id_of(atoms): atoms for atoms in frames("val_ood")}
    atoms = [known[one] for one in stored["ids"].tolist()]
    free = [np.delete(np.arange(len(a)), a.constraints[0].index) for a in atoms]
    target = [a.get_forces(apply_constraint=False)[f] for a, f in zip(atoms, free, strict=True)]
    energy = np.array([a.get_potential_energy() for a in atoms])
    found = report["splits"]["ood"]
    assert found["structures"] == len(atoms)
    expected = np.abs(energy - stored["energy"]).mean()
    assert found["energy_mae_meV"] == pytest.approx(1e3 * expected, rel=1e-5)
    expected = np.abs(np.concatenate(parts) - np.concatenate(target)).mean()
    assert found["forces_mae_meV_per_A"] == pytest.approx(1e3 * expected, rel=1e-5)
    natoms = torch.tensor([len(f) for f in free])
    evaluated = Evaluator("s2ef").eval(
        _tensors(stored["energy"].astype(float), parts, natoms), _tensors(energy, target, natoms)
    )
    cosine = evaluated["forces_cosine_similarity"]["metric"]
    assert found["forces_cosine"] == pytest.approx(cosine, abs=1e-6)
    assert found["EFwT_percent"] == 0.0


def _tensors(energy, forces, natoms) -> dict:
    rows = torch.as_tensor(np.concatenate(forces))
    return {"energy": torch.as_tensor(energy), "forces": rows, "natoms": natoms}


def test_two_array_jobs_leave_what_one_leaves(made, whole, tmp_path, capsys):
    predict(tmp_path, made, job=1, jobs=2)
    assert "3 of 6 parts are left to other processes" in capsys.readouterr().out
    assert results(tmp_path) == {}
    predict(tmp_path, made, job=0, jobs=2)
    assert "submission of all splits" in capsys.readouterr().out
    assert results(tmp_path) == results(whole)


def test_workers_that_read_change_nothing(made, whole, tmp_path):
    predict(tmp_path, made, num_workers=2)
    assert results(tmp_path) == results(whole)


def test_a_native_file_predicts_the_same(made, whole, tmp_path):
    native = tmp_path / "model.safetensors"
    export_native(Path(made["checkpoint"]), native)
    predict(tmp_path, made | {"checkpoint": str(native)})
    found = results(tmp_path)
    assert found["submission.npz"] == results(whole)["submission.npz"]


def test_data_without_labels_give_predictions_and_no_metrics(made, whole, tmp_path):
    unlabelled = frames("val_id")
    for atoms in unlabelled:
        atoms.calc = None
    write_data(tmp_path / "data" / "id", unlabelled)
    data = made["data"] | {"root": str(tmp_path / "data"), "splits": {"id": {"src": "id"}}}
    predict(tmp_path, made | {"data": data})
    assert results(tmp_path)["id.npz"] == results(whole)["id.npz"]
    report = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert report["splits"] == {"id": {"structures": len(unlabelled)}}


def test_some_splits_make_no_submission(made, tmp_path, capsys):
    data = made["data"] | {"splits": {"id": {"src": "id"}}}
    predict(tmp_path, made | {"data": data})
    assert "it needs the split(s) ood" in capsys.readouterr().out
    assert sorted(results(tmp_path)) == ["id.npz", "metrics.json"]


def test_batches_hold_all_once_and_no_more_atoms_than_allowed():
    sizes = np.random.default_rng(0).integers(5, 60, 100).tolist()
    sizes[17] = 500
    indices = list(range(1000, 1100))
    batches = batches_by_size(sizes, indices, 120)
    assert sorted(i for batch in batches for i in batch) == indices
    atoms = [[sizes[i - 1000] for i in batch] for batch in batches]
    assert atoms[0] == [500]
    assert all(sum(one) <= 120 for one in atoms[1:])
    assert [n for one in atoms for n in one] == sorted(sizes, reverse=True)
    # The next structure would not have fitted.
    assert all(sum(a) + b[0] > 120 for a, b in pairwise(atoms[1:]))
