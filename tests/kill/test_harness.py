"""The harness itself: it counts what is done to files, and finds the faults it is there for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import lmdb
import numpy as np
import pytest
import safetensors.torch
import torch

from kill.operations import Operations
from kill.trial import in_child, killed_and_run_again, two_at_once, undisturbed


class Job:
    """A job of this process that writes ``out/a.json``, well or badly."""

    name, results, refuses = "test", "out", False

    def __init__(self, write) -> None:
        self.write = write

    def run(self, inputs: Path, folder: Path) -> None:
        target = folder / "out" / "a.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            self.write(target)


def in_place(target: Path) -> None:
    target.write_text("[1, 2, 3]")


def beside(target: Path) -> None:
    building = target.with_name("building")
    building.write_text("[1, 2, 3]")
    os.replace(building, target)


def leaving_a_file(target: Path) -> None:
    building = target.with_name(f"building{os.getpid()}")
    building.write_text("[1, 2, 3]")
    os.replace(building, target)


def problems(job: Job, work: Path, modes=("after", "torn")) -> dict[str, str]:
    (work / "alone").mkdir(parents=True)
    alone = undisturbed(job, work, work / "alone")
    found = {}
    for point in alone.points(modes):
        problem = killed_and_run_again(job, point, alone, work, work / "trial")
        if problem:
            found[str(point).rsplit(" [")[0]] = problem
    return found


def test_a_file_that_is_written_in_place_is_found(tmp_path):
    found = problems(Job(in_place), tmp_path)
    # A torn write leaves half of it, and a kill after opening an empty file.
    assert set(found) == {"after open out/a.json", "torn write out/a.json"}
    assert all("a.json" in problem for problem in found.values())


def test_a_file_that_is_renamed_when_it_is_whole_is_fine(tmp_path):
    assert problems(Job(beside), tmp_path) == {}
    assert problems(Job(beside), tmp_path / "full", ("full",)) == {}


def test_a_file_that_stays_behind_is_found(tmp_path):
    found = problems(Job(leaving_a_file), tmp_path)
    assert all(problem.startswith("left over: building") for problem in found.values())
    assert len(found) == 3  # opened, half and wholly written


def test_half_a_file_on_a_full_disk_is_found(tmp_path):
    # With the disk full before, the file is left empty, or half of it.
    found = problems(Job(in_place), tmp_path, ("full",))
    assert found.keys() == {"full open out/a.json", "full write out/a.json"}


def test_two_at_once_that_both_add_are_found(tmp_path):
    def doubled(target: Path) -> None:
        with target.with_name("log.jsonl").open("a") as file:
            file.write("1\n")
        target.write_text("[1]")

    def run(inputs: Path, folder: Path) -> None:
        (folder / "out").mkdir(parents=True, exist_ok=True)
        doubled(folder / "out" / "a.json")

    job = Job(None)
    job.run = run
    (tmp_path / "alone").mkdir()
    alone = undisturbed(job, tmp_path, tmp_path / "alone")
    assert "log.jsonl" in two_at_once(job, alone, tmp_path, tmp_path / "twice")


@pytest.fixture
def counted(tmp_path):
    """Does something in a forked process, and returns the operations that were counted."""

    def operations(work) -> list[str]:
        folder = tmp_path / "folder"

        def record() -> None:
            found = Operations(folder)
            found.install()
            work(folder)
            lines = "\n".join(str(operation) for operation in found.seen)
            (tmp_path / "seen").write_text(lines)

        assert in_child(record, tmp_path / "log", folder) == 0, (tmp_path / "log").read_text()
        return (tmp_path / "seen").read_text().splitlines()

    return operations


def test_operations_of_python_are_counted_below_its_buffers(counted):
    def work(folder: Path) -> None:
        with (folder / "a").open("w") as file:
            file.write("one")
            file.write("two")  # one write to the disk, when the file is closed
        with open(folder / "b", "ab", buffering=0) as file:
            file.write(b"one")
            file.truncate(1)
        (folder / "b").unlink()
        (folder / "c").mkdir()
        (folder / "a").rename(folder / "c" / "a")
        shutil.rmtree(folder / "c")
        np.savez(folder / "d.npz", a=np.zeros(2))
        (folder.parent / "elsewhere").write_text("not counted")
        (folder / "d.npz").read_bytes()

    seen = counted(work)
    assert seen[:9] == [
        "open a", "write a", "open b", "write b", "truncate b", "unlink b", "mkdir c",
        "rename a -> c/a", "unlink c/a",
    ]  # fmt: skip
    assert seen[9:11] == ["rmdir c", "open d.npz"]
    assert set(seen[11:]) == {"write d.npz"}


def test_files_that_compiled_code_writes_are_counted(counted):
    def work(folder: Path) -> None:
        torch.save({"a": torch.ones(2)}, folder / "a.pt")
        safetensors.torch.save_file({"a": torch.ones(2)}, folder / "b.safetensors")
        environment = lmdb.open(str(folder / "c"), subdir=False)
        transaction = environment.begin(write=True)
        transaction.put(b"a", b"b")
        transaction.commit()
        environment.close()

    assert counted(work) == ["save a.pt", "save b.safetensors", "commit c"]
