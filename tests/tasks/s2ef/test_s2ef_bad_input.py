"""What is wrong with a prediction job is said in one error, with the id or file at fault."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from helpers import no_file_beyond
from prediction_inputs import (
    frames,
    id_of,
    job_config,
    options,
    predict,
    write_data,
    write_model,
)

from eqv2_plugin.common.files import read_npz
from eqv2_plugin.inference.predictor import BatchPredictor
from eqv2_plugin.tasks.s2ef.runner import S2EFPredictionRunner

V1 = Path(__file__).parents[2] / "fixtures" / "ckpt_ocp1_noprefix_modeldict" / "checkpoint.pt"
SPLITS = {"id": {"src": "id"}}


def job(folder: Path, model: Path | str | None, atoms: list[Atoms] | None = None) -> dict:
    if atoms is None:
        atoms = frames("val_id")
    write_data(folder / "data" / "id", atoms)
    return options(folder / "data", model, SPLITS)


def no_forces(made) -> None:
    made.tasks_config = made.tasks_config[:1]


def two_data_sets(made) -> None:
    for task in made.tasks_config:
        task["datasets"] = ["oc20", "omat"]


def not_a_number(made) -> None:
    for state in (made.model_state_dict, made.ema_state_dict):
        for name, value in state.items():
            if name.endswith("bias"):
                state[name] = torch.full_like(value, torch.nan)


def huge(made) -> None:
    made.tasks_config[1]["normalizer"]["rmsd"] = 1e9


MODELS = {
    "no forces": (no_forces, None, "predicts no forces for oc20"),
    "two data sets": (two_data_sets, None, "choose one with task_name=NAME"),
    "another data set": (two_data_sets, "oc22", "the model has no task 'oc22'; it has oc20, omat"),
    "NaN": (not_a_number, None, r"NaN, infinite or beyond 65504.* \d+_\d+"),
    "beyond float16": (huge, None, r"NaN, infinite or beyond 65504.* \d+_\d+"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_does_not_fit_is_refused(tmp_path, name):
    change, task, text = MODELS[name]
    made = job(tmp_path, write_model(tmp_path / "model.pt", change))
    with pytest.raises(ValueError, match=text):
        predict(tmp_path, made, task_name=task)
    assert not list(tmp_path.rglob("parts/id/*.npz"))


def garbage(folder: Path) -> Path:
    (folder / "model.pt").write_bytes(b"no checkpoint")
    return folder / "model.pt"


FILES = {
    "none": (lambda folder: None, FileNotFoundError, "give checkpoint=FILE"),
    "not there": (lambda folder: "no.pt", FileNotFoundError, "checkpoint=no.pt: there is no such"),
    "garbage": (garbage, ValueError, "is no checkpoint: it starts with"),
    "fairchem-core 1": (lambda folder: V1, ValueError, "eqv2 convert"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_model_is_refused(tmp_path, name):
    make, kind, text = FILES[name]
    made = job(tmp_path, make(tmp_path))
    with pytest.raises(kind, match=text):
        predict(tmp_path, made)


def unknown_element(atoms: list[Atoms]) -> str:
    atoms[1].numbers[0] = 92
    return f"^{id_of(atoms[1])}: the model knows .* contains U"


def no_cell(atoms: list[Atoms]) -> str:
    atoms[1].cell[:] = 0
    return f"^{id_of(atoms[1])}: "


def no_frame(atoms: list[Atoms]) -> str:
    sid = atoms[1].info["sid"]
    del atoms[1].info["fid"]
    return rf"structure 1 \(sid {sid}\) has no fid"


def no_system(atoms: list[Atoms]) -> str:
    del atoms[1].info["sid"]
    return "structure 1 has no sid"


def underscore(atoms: list[Atoms]) -> str:
    atoms[1].info["sid"] = "my_slab"
    return "'my_slab' has '_'"


def unlabelled(atoms: list[Atoms]) -> str:
    del atoms[1].calc.results["forces"]
    return f"{id_of(atoms[1])} has no forces, but the first structure"


DATA = [unknown_element, no_cell, no_frame, no_system, underscore, unlabelled]


@pytest.mark.parametrize("change", DATA, ids=lambda change: change.__name__)
def test_a_structure_that_cannot_be_predicted_is_named(tmp_path, model, change):
    atoms = frames("val_id")
    text = change(atoms)
    with pytest.raises(ValueError, match=text):
        predict(tmp_path, job(tmp_path, model, atoms))


def test_an_id_that_occurs_twice_is_named(tmp_path, model):
    atoms = frames("val_id")
    # Another part, and another spelling of the same system.
    atoms[4].info.update(sid=atoms[0].info["sid"].removeprefix("random"), fid=atoms[0].info["fid"])
    made = job(tmp_path, model, atoms)
    with pytest.raises(ValueError, match=f"data of id: .* more than once: {id_of(atoms[0])}"):
        predict(tmp_path, made)
    assert not (tmp_path / "results" / "id.npz").exists()


def test_only_forces_missing_everywhere_means_no_metrics(tmp_path, model, capsys):
    atoms = frames("val_id")
    for one in atoms:
        del one.calc.results["forces"]
    made = job(tmp_path, model, atoms)
    predict(tmp_path, made)
    assert "No metrics for id: its structures have energy only" in capsys.readouterr().out


def test_atoms_that_are_all_fixed_have_no_rows_and_no_metrics(tmp_path, model):
    atoms = frames("val_id")
    atoms[1].constraints[0].index = np.arange(len(atoms[1]))
    made = job(tmp_path, model, atoms)
    predict(tmp_path, made)
    with np.load(tmp_path / "results" / "id.npz") as file:
        counts = np.diff([0, *file["chunk_idx"], len(file["forces"])])
        assert counts[file["ids"].tolist().index(id_of(atoms[1]))] == 0


def test_data_that_are_not_there_are_refused(tmp_path, model):
    with pytest.raises(FileNotFoundError, match=r"set data_root=FOLDER\. Fetch it\."):
        predict(tmp_path, options(None, model, SPLITS))
    with pytest.raises(FileNotFoundError, match=r"id: .* does not exist"):
        predict(tmp_path, options(tmp_path, model, SPLITS))
    with pytest.raises(ValueError, match="no splits to predict"):
        predict(tmp_path, options(tmp_path, model, {}))


def test_wrong_settings_are_refused(tmp_path, model):
    made = job(tmp_path, model)
    for key in ("atoms_per_batch", "structures_per_part"):
        with pytest.raises(ValueError, match=f"{key} must be at least 1, not 0"):
            predict(tmp_path, made | {key: 0})
    with pytest.raises(ValueError, match="dataset must be one of oc20, oc22, not 'oc21'"):
        predict(tmp_path, made | {"dataset": "oc21"})


def test_array_jobs_without_a_cluster_are_refused(tmp_path, model):
    runner = S2EFPredictionRunner(**job(tmp_path, model), inference_settings=None)
    runner.job_config = job_config(tmp_path, jobs=2, mode="local")
    with pytest.raises(ValueError, match=r"num_array_jobs=2 needs job\.scheduler\.mode=SLURM"):
        runner.run()


def test_a_batch_beyond_the_memory_is_halved(tmp_path, model, monkeypatch):
    sizes, enough = [], BatchPredictor.__call__

    def little(self, structures):
        sizes.append(len(structures))
        if len(structures) > limit:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return enough(self, structures)

    monkeypatch.setattr(BatchPredictor, "__call__", little)
    limit = 0
    made = job(tmp_path, model)
    with pytest.raises(MemoryError, match=r"too little memory for a structure of \d+ atoms"):
        predict(tmp_path, made)
    limit = 1
    predict(tmp_path, made)
    assert max(sizes) > 1
    assert len(read_npz(tmp_path / "results" / "id.npz")["ids"]) == len(frames("val_id"))


def test_a_full_disk_is_said_and_the_job_goes_on_afterwards(tmp_path, model):
    made = job(tmp_path, model)
    with no_file_beyond(3000), pytest.raises(OSError, match=r"write .*00000\.npz.*Make room"):
        predict(tmp_path, made)
    assert not list((tmp_path / "results").rglob("*.npz*"))
    predict(tmp_path, made)
