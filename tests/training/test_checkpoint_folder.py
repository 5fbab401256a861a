"""Which checkpoint a run goes on from, and what becomes of those that are not complete."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from torch.distributed import checkpoint as dcp

from eqv2_plugin.training.checkpoints import is_complete, last_complete, remove_unfinished


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("step_7", "step_14"):
        dcp.save({"weights": torch.arange(100.0)}, checkpoint_id=tmp_path / name)
    return tmp_path


def data(checkpoint: Path) -> Path:
    return next(checkpoint.glob("*.distcp"))


def test_the_latest_step_counts_not_the_latest_change(folder):
    os.utime(folder / "step_7")
    assert last_complete(folder) == folder / "step_14"
    shutil.copytree(folder / "step_7", folder / "final")
    assert last_complete(folder) == folder / "final"


def test_a_checkpoint_without_metadata_is_passed_over_and_removed(folder):
    (folder / "step_14" / ".metadata").unlink()
    assert last_complete(folder) == folder / "step_7"
    assert remove_unfinished(folder) == ["step_14"]
    assert [path.name for path in folder.iterdir()] == ["step_7"]


@pytest.mark.parametrize("kept", [None, 0, 20])
def test_a_checkpoint_whose_data_are_gone_or_cut_off_is_passed_over(folder, kept):
    # So a kill leaves one that was being removed, or written again.
    file = data(folder / "step_14")
    if kept is None:
        file.unlink()
    else:
        os.truncate(file, kept)
    assert not is_complete(folder / "step_14")
    assert last_complete(folder) == folder / "step_7"
    assert remove_unfinished(folder) == []


def test_damaged_metadata_are_passed_over(folder):
    os.truncate(folder / "step_14" / ".metadata", 20)
    assert last_complete(folder) == folder / "step_7"


def test_dangling_and_other_links_are_passed_over(folder):
    (folder / "preemption_state").symlink_to(folder / "step_0")
    (folder / "other").symlink_to(folder / "step_7")
    assert last_complete(folder) == folder / "step_14"
    assert remove_unfinished(folder) == []


def test_without_checkpoints_there_is_none(tmp_path):
    assert last_complete(tmp_path) is None
    assert last_complete(tmp_path / "nowhere") is None
