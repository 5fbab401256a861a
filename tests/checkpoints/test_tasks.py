"""Normalisers and heads of v1 as tasks of fairchem 2."""

from __future__ import annotations

import pytest
import torch
from checkpoint_inputs import DENS, PLAIN, edited, taken_apart

from eqv2_plugin.checkpoints.reading import read_checkpoint
from eqv2_plugin.checkpoints.record import TaskRecord
from eqv2_plugin.checkpoints.v1.convert import convert_file


def tasks_of(path) -> dict[str, TaskRecord]:
    return {task.name: task for task in taken_apart(path).content.header.tasks}


def scale(task) -> tuple[float, float]:
    return task.mean, task.rmsd


def test_numbers_are_those_of_the_checkpoint_to_the_last_bit():
    stored, tasks = read_checkpoint(DENS), tasks_of(DENS)
    forces = stored["normalizers"]["forces"]
    assert scale(tasks["forces"]) == (float(forces["mean"]), float(forces["rmsd"]))
    references = stored["elementrefs"]["energy"]["element_references"]
    content = taken_apart(DENS).content
    values = content.references["energy"].float()
    assert torch.equal(values[references != 0], references[references != 0])
    head = content.header.model["heads"]["stress"]
    for part in ("isotropic", "anisotropic"):
        kept = stored["normalizers"][f"stress_{part}"]
        assert head[part] == {"mean": float(kept["mean"]), "rmsd": float(kept["rmsd"])}


def test_a_normaliser_of_the_joined_stress_comes_on_top_of_its_parts(tmp_path):
    numbers = {"mean": torch.tensor(0.25), "rmsd": torch.tensor(2.0)}
    path = edited(DENS, tmp_path / "a.pt", lambda c: c["normalizers"].update(stress=numbers))
    assert scale(tasks_of(DENS)["stress"]) == (0.0, 1.0)
    assert scale(tasks_of(path)["stress"]) == (0.25, 2.0)


def test_the_noise_of_dens_belongs_to_no_data_set():
    noise = tasks_of(DENS)["noise_forces"]
    assert noise.datasets == ()
    assert scale(noise)[1] == pytest.approx(0.1)


def test_a_target_without_normaliser_is_taken_as_it_is(tmp_path):
    path = edited(PLAIN, tmp_path / "a.pt", lambda c: c.update(normalizers={}))
    with pytest.raises(ValueError, match="in conflict"):  # the config still states some
        tasks_of(path)

    def without(checkpoint):
        checkpoint["normalizers"] = {}
        checkpoint["config"]["dataset"] = {}

    path = edited(PLAIN, tmp_path / "b.pt", without)
    assert scale(tasks_of(path)["energy"]) == (0.0, 1.0)


def test_a_model_of_energies_alone_is_converted(tmp_path):
    def energy_only(checkpoint):
        checkpoint["config"]["model"]["regress_forces"] = False
        state = checkpoint["state_dict"]
        for key in [key for key in state if key.startswith("force_block.")]:
            del state[key]
        del checkpoint["normalizers"]["grad_target"]
        checkpoint["config"]["dataset"]["normalize_labels"] = False

    path = edited(PLAIN, tmp_path / "old.pt", energy_only)
    done = convert_file(path, tmp_path / "new.pt")
    assert list(done.checked) == ["energy"]
