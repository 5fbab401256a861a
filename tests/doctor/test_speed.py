"""Batches double until time or memory ends, and the text says which."""

from __future__ import annotations

import pytest
import torch
from ase import Atoms

from eqv2_plugin.doctor import speed
from eqv2_plugin.doctor.speed import time_batches

ATOMS = Atoms("Cu2", [[0, 0, 0], [2.4, 0, 0]])


class Clock:
    """Advances by 0.1 s for each structure that is predicted."""

    def __init__(self, fails_beyond: int = 10**9) -> None:
        self.now = 0.0
        self.fails_beyond = fails_beyond

    def __call__(self) -> float:
        return self.now

    def predict(self, batch):
        if len(batch) > self.fails_beyond:
            raise torch.OutOfMemoryError
        self.now += 0.1 * len(batch)
        return []


def test_the_largest_batch_within_the_time_is_a_lower_bound():
    clock = Clock()
    found = time_batches(clock.predict, ATOMS, "cpu", 2.0, clock)
    # 0.1 s to warm up, then 0.1 + 0.2 + 0.4 + 0.8; 1.6 s more would be too long.
    assert found.sizes == [1, 2, 4, 8]
    assert found.seconds == pytest.approx([0.1] * 4)
    assert not found.is_limit
    assert "time" in found.stopped
    assert clock.now <= 2.0


def test_what_does_not_fit_is_a_limit():
    clock = Clock(fails_beyond=4)
    found = time_batches(clock.predict, ATOMS, "cpu", 1e3, clock)
    assert found.sizes == [1, 2, 4]
    assert found.is_limit
    assert "8 do not fit" in found.stopped


def test_a_structure_that_does_not_fit_at_all_is_an_error():
    clock = Clock(fails_beyond=0)
    with pytest.raises(torch.OutOfMemoryError):
        time_batches(clock.predict, ATOMS, "cpu", 1e3, clock)


def test_no_batch_is_begun_that_might_fill_the_memory(monkeypatch):
    clock, gib = Clock(), 2**30
    used = iter([1 * gib, 1 * gib, 2 * gib, 4 * gib, 8 * gib])
    monkeypatch.setattr(speed, "_peak_bytes", lambda device: next(used))
    monkeypatch.setattr(speed, "_free_bytes", lambda: 6 * gib)
    found = time_batches(clock.predict, ATOMS, "cpu", 1e3, clock)
    # The last batch took 2 GiB more; the next would take 4 of the 6 that are free.
    assert found.sizes == [1, 2]
    assert "4.0 GiB" in found.stopped
    assert not found.is_limit
    assert found.peak_bytes == 4 * gib
