"""Kernels on several threads, in a process and in those that it forks."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from helpers import generator

from eqv2_plugin.kernels.numba_runtime import in_parts

SECONDS = 30  # after which a child that waits for ever is ended


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def in_child(work) -> int:
    """Fork, and work there: 0 if what it returns is true, else how the child ended."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1]


def parts() -> list:
    return in_parts(lambda start, end: list(range(start, end)), 10)


def test_parts_are_in_order_and_complete(two_threads):
    assert parts() == [list(range(5)), list(range(5, 10))]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_process_forked_after_work_on_two_threads_works(two_threads):
    numbers = torch.randn(500_000, generator=generator(0))
    expected = parts(), numbers.exp().sum()  # of torch's own threads, too

    def again() -> bool:
        # One thread, until somebody asks for more.
        alone = parts() == [list(range(10))] and torch.get_num_threads() == 1
        total = numbers.exp().sum()
        torch.set_num_threads(2)
        return alone and torch.isclose(total, expected[1]) and parts() == expected[0]

    assert in_child(again) == 0
    assert parts() == expected[0]  # the parent's threads are still there
