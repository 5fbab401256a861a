"""Processes that outlive nothing."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import time
from pathlib import Path

import pytest

# Without the package's imports, which a process that is not forked would wait for.
ORPHANS = Path(__file__).parents[1] / "src" / "eqv2_plugin" / "common" / "orphans.py"
end_with_parent = runpy.run_path(str(ORPHANS))["end_with_parent"]
FORK = multiprocessing.get_context("fork")


def wait_for_the_end() -> None:
    end_with_parent()
    time.sleep(60)


def start_child(pipe, method: str) -> None:
    child = multiprocessing.get_context(method).Process(target=wait_for_the_end)
    child.start()
    pipe.send(child.pid)
    time.sleep(60)


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_child_ends_within_seconds_of_a_killed_parent(method):
    here, there = FORK.Pipe()
    parent = FORK.Process(target=start_child, args=(there, method))
    parent.start()
    assert here.poll(30)
    child = here.recv()
    time.sleep(0.5 if method == "fork" else 2.0)
    assert is_there(child)  # it lives as long as its parent does
    parent.kill()
    parent.join()
    end = time.monotonic() + 10
    while is_there(child) and time.monotonic() < end:
        time.sleep(0.05)
    ended = not is_there(child)
    if not ended:
        os.kill(child, signal.SIGKILL)
    assert ended


def test_a_process_that_nobody_spawned_goes_on():
    assert multiprocessing.parent_process() is None
    end_with_parent()
    time.sleep(0.5)
