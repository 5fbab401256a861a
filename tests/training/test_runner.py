"""What the training runner does about its folder, without training."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import no_file_beyond
from omegaconf import OmegaConf
from torch.distributed import checkpoint as dcp

from eqv2_plugin.common.locks import InUseError, folder_lock
from eqv2_plugin.training import runner as runner_module
from eqv2_plugin.training.runner import EquiformerV2TrainRunner


class Unit:
    """Stands for fairchem's unit: it saves and loads, or the disk is full."""

    def __init__(self, full: bool = False) -> None:
        self.full = full
        self.loaded: str | None = None
        self.saved_config: str | None = None
        self.config: Path

    def get_finetune_model_config(self):
        return None

    def load_state(self, location: str) -> None:
        self.loaded = location

    def save_state(self, location: str) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.saved_config = self.config.read_text()
        dcp.save({"weights": torch.arange(9.0)}, checkpoint_id=location)


CONFIG = "job: {seed: 0}\nrunner: {max_epochs: 4, train_eval_unit: {model: {lmax: 2}}}\n"
NO_DATA = SimpleNamespace(dataset=SimpleNamespace(dataset_names=[], datasets=[]))


def runner(run: Path, unit: Unit) -> EquiformerV2TrainRunner:
    """A runner in the folder ``run``, without data and model."""
    run.mkdir(exist_ok=True)
    made = EquiformerV2TrainRunner.__new__(EquiformerV2TrainRunner)
    made.train_eval_unit = unit
    made._report, made._resumed_from, made._lock = None, None, None
    made.train_dataloader = made.eval_dataloader = NO_DATA
    unit.config = run / "canonical_config.yaml"
    unit.config.write_text(CONFIG)
    metadata = {"checkpoint_dir": str(run / "checkpoints"), "config_path": str(unit.config)}
    made.job_config = OmegaConf.create({"metadata": metadata})
    return made


@pytest.fixture
def begun(tmp_path) -> Iterator[EquiformerV2TrainRunner]:
    """A runner that has begun in the folder ``run``."""
    made = runner(tmp_path / "run", Unit())
    made.load_state(None)
    yield made
    made._lock.release()


def test_two_runs_in_one_folder_are_refused_until_the_first_has_ended(begun, tmp_path, monkeypatch):
    monkeypatch.setattr(runner_module, "folder_lock", partial(folder_lock, wait=0.1))
    second = runner(tmp_path / "run", Unit())
    with pytest.raises(InUseError, match=r"another run is writing to .*run: process \d+ on"):
        second.load_state(None)
    begun._lock.release()
    second.load_state(None)
    second._lock.release()


def test_a_refused_command_does_not_change_the_config_in_checkpoints(begun, tmp_path):
    begun.train_eval_unit.config.write_text("that of another command")
    begun.save_state(str(tmp_path / "run" / "checkpoints" / "step_7"))
    assert begun.train_eval_unit.saved_config == CONFIG


def test_a_full_disk_is_told_and_the_run_goes_on_from_the_checkpoint_before(
    begun, tmp_path, capsys
):
    checkpoints = tmp_path / "run" / "checkpoints"
    begun.save_state(str(checkpoints / "step_7"))
    begun.train_eval_unit.full = True
    with pytest.raises(OSError, match=r"step_14 was not written: .*No space.*make room"):
        begun.save_state(str(checkpoints / "step_14"))
    begun._lock.release()
    again = runner(tmp_path / "run", Unit())
    again.load_state(None)
    assert again.train_eval_unit.loaded == str(checkpoints / "step_7")
    assert not (checkpoints / "step_14").exists()
    assert "step_14" in capsys.readouterr().out
    again._lock.release()


def test_an_error_of_torchs_writer_is_told_in_one_line(begun, tmp_path):
    refused = pytest.raises(OSError, match=r"step_7 was not written: .*File too large.*")
    with no_file_beyond(100), refused as told:
        begun.save_state(str(tmp_path / "run" / "checkpoints" / "step_7"))
    assert "\n" not in str(told.value)


def test_a_checkpoint_that_is_written_again_does_not_count_meanwhile(begun, tmp_path):
    location = tmp_path / "run" / "checkpoints" / "step_7"
    begun.save_state(str(location))
    begun.train_eval_unit.full = True
    with pytest.raises(OSError, match="was not written"):
        begun.save_state(str(location))
    assert not (location / ".metadata").exists()


def test_a_given_checkpoint_that_is_not_there_is_told(tmp_path):
    made = runner(tmp_path / "run", Unit())
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"no complete checkpoint .*dangling"):
        made.load_state(str(tmp_path / "dangling"))
    folder_lock(tmp_path / "run", wait=0.0).release()


def test_an_ended_run_leaves_a_link_to_its_last_checkpoint_for_a_queue(begun, tmp_path):
    checkpoints = tmp_path / "run" / "checkpoints"
    begun.save_state(str(checkpoints / "step_7"))
    (checkpoints / "preemption_state").mkdir()  # as fairchem does before it asks
    assert begun.save_state(str(checkpoints / "preemption_state"), is_preemption=True)
    assert (checkpoints / "preemption_state").resolve() == checkpoints / "step_7"


def test_other_settings_are_refused_once_something_was_saved(tmp_path):
    first = runner(tmp_path / "run", Unit())
    first.load_state(None)
    first._lock.release()

    def other() -> EquiformerV2TrainRunner:
        made = runner(tmp_path / "run", Unit())
        made.train_eval_unit.config.write_text(CONFIG.replace("max_epochs: 4", "max_epochs: 9"))
        return made

    second = other()  # the first was refused, or ended, before its first step
    second.load_state(None)
    second.save_state(str(tmp_path / "run" / "checkpoints" / "step_7"))
    second._lock.release()
    third = runner(tmp_path / "run", Unit())
    with pytest.raises(ValueError, match=r"other settings \(epochs: 9 -> 4\).*run_name=run-"):
        third.load_state(None)
    # The launcher has written that of the refused command.
    assert "max_epochs: 9" in third.train_eval_unit.config.read_text()
    again = other()
    again.load_state(None)
    again._lock.release()
