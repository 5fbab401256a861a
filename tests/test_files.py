"""Whole files: what a crash, a full disk or a second writer leaves."""

from __future__ import annotations

import multiprocessing
import resource
import time
from pathlib import Path

import numpy as np
import pytest

from eqv2_plugin.common.files import (
    atomic_write,
    building_folder,
    read_npz,
    save_npz,
    save_text,
)

# Importing the package again would take seconds.
FORK = multiprocessing.get_context("fork")


def write_half(path: Path, begun) -> None:
    with atomic_write(path) as building:
        building.write_text("half")
        begun.set()
        time.sleep(60)


def write_often(path: Path, letter: str) -> None:
    for _ in range(200):
        save_text(path, letter * 1000)


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def start_writer(path: Path) -> multiprocessing.Process:
    begun = FORK.Event()
    process = FORK.Process(target=write_half, args=(path, begun))
    process.start()
    assert begun.wait(30)
    return process


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with atomic_write(path) as building:
        building.write_text("text")
        assert not path.exists()
    assert path.read_text() == "text"
    assert not hidden(path.parent)


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    save_text(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as building:
        building.write_text(f"new {1 / 0}")
    assert path.read_text() == "old"
    assert not hidden(tmp_path)


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    path = tmp_path / "file.txt"
    process = start_writer(path)
    process.kill()
    process.join()
    assert len(hidden(tmp_path)) == 1
    save_text(tmp_path / "other_file.txt", "another file's leftovers are not its own")
    assert len(hidden(tmp_path)) == 1
    save_text(path, "whole")
    assert path.read_text() == "whole"
    assert not hidden(tmp_path)


def test_a_writer_that_lives_is_left_alone(tmp_path):
    path = tmp_path / "file.txt"
    process = start_writer(path)
    try:
        save_text(path, "whole")
        assert [file.read_text() for file in hidden(tmp_path)] == ["half"]
    finally:
        process.kill()
        process.join()


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path):
    path = tmp_path / "file.npz"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*file\.npz.*Make room"):
            save_npz(path, {"a": np.zeros(1000)}, compressed=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_two_writers_of_one_file_at_once_both_end(tmp_path):
    writers = [FORK.Process(target=write_often, args=(tmp_path / "file", k)) for k in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert (tmp_path / "file").read_text() in ("a" * 1000, "b" * 1000)
    assert not hidden(tmp_path)


def test_arrays_come_back(tmp_path):
    arrays = {"a": np.arange(3), "b": np.array(["x", "y"])}
    save_npz(tmp_path / "file.npz", arrays)
    found = read_npz(tmp_path / "file.npz")
    assert {name: value.tolist() for name, value in found.items()} == {
        "a": [0, 1, 2],
        "b": ["x", "y"],
    }


def test_a_file_that_would_fill_memory_is_refused(tmp_path):
    path = tmp_path / "small.npz"
    np.savez_compressed(path, natoms=np.zeros(40_000_000))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(ValueError, match=r"small\.npz .*grow to 320,0.* bytes"):
        read_npz(path)


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with building_folder(tmp_path / "data") as building:
        (building / "a").write_text("1")
        assert not (tmp_path / "data").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert (tmp_path / "data" / "a").read_text() == "1"


def test_a_folder_that_is_there_stays_and_an_error_leaves_none(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("0")
    with (
        pytest.raises(FileExistsError, match="data exists"),
        building_folder(tmp_path / "data") as building,
    ):
        (building / "a").write_text("1")
    assert (tmp_path / "data" / "a").read_text() == "0"
    with pytest.raises(KeyError), building_folder(tmp_path / "other"):
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
