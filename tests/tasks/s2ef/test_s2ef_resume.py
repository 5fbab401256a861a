"""A job that is killed, at any point, is continued by the same command, with the same result."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from kill_at_call import kill_at_call
from prediction_inputs import (
    frames,
    predict,
    results,
    settings,
    write_data,
    write_model,
)

from eqv2_plugin.tasks.s2ef import predicting

# Renames of a run: of three descriptions, three parts of each split, and four files for the user.
BEFORE, PARTS, AFTER = 3, 2 * 3, 4


def parts(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("parts/*/0*.npz")}


@pytest.mark.slow
@pytest.mark.parametrize("calls", [3, 6, 10, BEFORE + PARTS + AFTER])
def test_a_job_killed_before_a_file_appears_goes_on(made, whole, tmp_path, calls):
    kill_at_call(os, "replace", calls, predict, tmp_path, made)
    finished = parts(tmp_path)
    assert len(finished) == min(max(0, calls - 1 - BEFORE), PARTS)
    predict(tmp_path, made)
    assert finished.items() <= parts(tmp_path).items()
    assert results(tmp_path) == results(whole)


@pytest.mark.slow
def test_a_job_killed_in_the_middle_of_a_part_goes_on(made, whole, tmp_path):
    kill_at_call(predicting, "predict_items", 5, predict, tmp_path, made)
    assert 0 < len(parts(tmp_path)) < 6
    predict(tmp_path, made)
    assert results(tmp_path) == results(whole)


@pytest.fixture(scope="module")
def begun(made, tmp_path_factory) -> Path:
    """A job of which one of six processes has run."""
    folder = tmp_path_factory.mktemp("begun")
    predict(folder, made, jobs=6)
    return folder


def copy(job: Path, folder: Path) -> None:
    shutil.copytree(job, folder, dirs_exist_ok=True)


def test_a_finished_job_predicts_nothing_again(made, whole, tmp_path, monkeypatch):
    copy(whole, tmp_path)

    def refuse(*arguments):
        raise AssertionError("predicted again")

    monkeypatch.setattr(predicting, "predict_items", refuse)
    predict(tmp_path, made)
    assert results(tmp_path) == results(whole)


def test_other_numbers_of_processes_may_go_on(made, whole, tmp_path):
    predict(tmp_path, made, job=0, jobs=3)
    predict(tmp_path, made, job=1, jobs=2)
    predict(tmp_path, made)
    assert results(tmp_path) == results(whole)


def another_model(made: dict, folder: Path) -> dict:
    def scaled(checkpoint) -> None:
        checkpoint.tasks_config[0]["normalizer"]["rmsd"] = 3.0

    return {"checkpoint": str(write_model(folder / "other.pt", scaled))}


def other_data(made: dict, folder: Path) -> dict:
    moved = frames("val_id")
    moved[0].positions[0] += 1e-9
    write_data(folder / "data" / "id", moved)
    write_data(folder / "data" / "ood", frames("val_ood"))
    return {"data": made["data"] | {"root": str(folder / "data")}}


def fewer_structures(made: dict, folder: Path) -> dict:
    return {"data": made["data"] | {"splits": {"id": {"src": "id", "first_n": 6}}}}


CHANGES = {
    "model": (another_model, "model.checkpoint_sha256: "),
    "data": (other_data, "three_structures_sha256: "),
    "structures": (fewer_structures, "options.first_n: None -> 6"),
    "data set": (lambda made, folder: {"dataset": "oc20"}, "dataset: oc22 -> oc20"),
    "parts": (lambda made, folder: {"structures_per_part": 4}, "structures_per_part: 3 -> 4"),
    "precision": (
        lambda made, folder: {"inference_settings": settings("float64")},
        "base_precision_dtype: torch.float32 -> torch.float64",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_parts_of_something_else_are_refused(made, begun, tmp_path, name):
    copy(begun, tmp_path)
    change, text = CHANGES[name]
    with pytest.raises(ValueError, match="holds predictions made with something else") as error:
        predict(tmp_path, made, **change(made, tmp_path))
    assert text in str(error.value)
    assert "run_name=NAME" in str(error.value)


def test_another_size_of_batches_may_go_on(made, begun, tmp_path):
    """The advice where the memory is too small."""
    copy(begun, tmp_path)
    before = parts(tmp_path)
    predict(tmp_path, made, atoms_per_batch=50)
    assert len(before) == 1
    assert before.items() <= parts(tmp_path).items()


def test_the_same_data_elsewhere_may_go_on(made, whole, tmp_path):
    predict(tmp_path, made, jobs=2)
    root = tmp_path / "moved"
    write_data(root / "id", frames("val_id"))
    write_data(root / "ood", frames("val_ood"))
    changed = made | {"data": made["data"] | {"root": str(root)}}
    predict(tmp_path, changed)
    assert results(tmp_path) == results(whole)


def shorten(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def lose_structures(path: Path) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **arrays | {"ids": arrays["ids"][:1]})


@pytest.mark.parametrize("damage", [shorten, lose_structures])
def test_a_damaged_part_is_refused(made, whole, tmp_path, damage):
    copy(whole, tmp_path)
    part = tmp_path / "results" / "parts" / "id" / "00001.npz"
    damage(part)
    with pytest.raises(ValueError, match=r"00001\.npz is damaged .* delete it"):
        predict(tmp_path, made)
    part.unlink()
    predict(tmp_path, made)
    assert results(tmp_path) == results(whole)
