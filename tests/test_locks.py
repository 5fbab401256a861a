"""Locks: one holder at a time, who it is, and none after a kill."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from eqv2_plugin.common.locks import LOCK_FILE, FileLock, InUseError, folder_lock

# Importing the package again would take seconds.
FORK = multiprocessing.get_context("fork")


def hold(folder: Path, children_hold: bool, pipe) -> None:
    """Lock, and have a forked child, as data loaders have them."""
    lock = FileLock(folder / LOCK_FILE, children_hold=children_hold)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    pipe.send(child)
    time.sleep(60)
    lock.release()


def count_up(folder: Path) -> None:
    for _ in range(20):
        with folder_lock(folder / "locked", wait=60.0):
            count = int((folder / "count").read_text())
            time.sleep(0.002)
            (folder / "count").write_text(str(count + 1))


def start_holder(folder: Path, children_hold: bool = False) -> tuple[multiprocessing.Process, int]:
    here, there = FORK.Pipe()
    process = FORK.Process(target=hold, args=(folder, children_hold, there))
    process.start()
    assert here.poll(30)
    return process, here.recv()


def test_a_held_folder_is_refused_and_its_holder_named(tmp_path):
    process, child = start_holder(tmp_path)
    try:
        with pytest.raises(InUseError, match=rf"writing to .*: process {process.pid} on .*since"):
            folder_lock(tmp_path, wait=0.2)
    finally:
        process.kill()
        process.join()
        os.kill(child, signal.SIGKILL)


def test_a_killed_holder_frees_the_folder_at_once_though_its_children_live(tmp_path):
    process, child = start_holder(tmp_path)
    process.kill()
    process.join()
    try:
        os.kill(child, 0)
        start = time.monotonic()
        folder_lock(tmp_path, wait=0.0).release()
        assert time.monotonic() - start < 1.0
    finally:
        os.kill(child, signal.SIGKILL)


def test_children_that_write_hold_it_until_they_end(tmp_path):
    process, child = start_holder(tmp_path, children_hold=True)
    process.kill()
    process.join()
    with pytest.raises(InUseError, match=f"process {process.pid}"):
        folder_lock(tmp_path, wait=0.2)
    os.kill(child, signal.SIGKILL)
    folder_lock(tmp_path).release()


def test_a_released_lock_leaves_an_empty_file_and_can_be_taken_again(tmp_path):
    for _ in range(2):
        with (
            folder_lock(tmp_path, wait=0.0),
            pytest.raises(InUseError, match=f"process {os.getpid()}"),
        ):
            folder_lock(tmp_path, wait=0.0)
        assert [path.read_text() for path in tmp_path.iterdir()] == [""]


def test_waiting_processes_hold_it_one_after_the_other(tmp_path):
    (tmp_path / "count").write_text("0")
    processes = [FORK.Process(target=count_up, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "60"


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def refuse(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="has no locks"), FileLock(tmp_path / "lock"):
        pass
