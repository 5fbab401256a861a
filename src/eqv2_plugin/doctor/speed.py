"""Seconds per structure, and how many structures fit into one batch."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch
from ase import Atoms

from eqv2_plugin.doctor.predictor import Predict

# Stop before a batch that may need more than this share of the memory that is free.
_MEMORY_SHARE = 0.5


@dataclass(frozen=True)
class Timings:
    """Batches of one structure, each twice as large as the one before.

    Attributes:
        sizes: structures in the batch.
        seconds: per structure.
        stopped: why there was no larger batch.
        is_limit: whether it was the memory of the device that said no; otherwise larger
            batches may be possible.
        peak_bytes: most memory in use, of the device or of this process.
    """

    sizes: list[int]
    seconds: list[float]
    stopped: str
    is_limit: bool
    peak_bytes: int

    @property
    def best(self) -> float:
        return min(self.seconds)


def time_batches(
    predict: Predict,
    atoms: Atoms,
    device: str,
    limit_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Double the batch until time or memory ends.

    Args:
        predict: is called once to warm up, then once per batch size.
        atoms: the structure.
        device: "cpu" or "cuda".
        limit_s: no batch is begun that would, at the speed of the last one, end later.
        clock: seconds.
    """
    begin = clock()
    predict([atoms])
    sizes: list[int] = []
    seconds: list[float] = []
    peak = _peak_bytes(device)
    while True:
        size = 2 * sizes[-1] if sizes else 1
        if sizes and clock() - begin + size * seconds[-1] > limit_s:
            return Timings(sizes, seconds, f"the time of {limit_s:.0f} s is over", False, peak)
        before, peak = peak, _peak_bytes(device)
        growth = peak - before
        if sizes and device == "cpu" and 2 * growth > _MEMORY_SHARE * _free_bytes():
            stopped = f"twice as many may need {2 * growth / 2**30:.1f} GiB"
            return Timings(sizes, seconds, stopped, False, peak)
        start = clock()
        try:
            predict([atoms] * size)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            if not sizes:
                raise
            return Timings(sizes, seconds, f"{size} do not fit into memory", True, peak)
        seconds.append((clock() - start) / size)
        sizes.append(size)


def _peak_bytes(device: str) -> int:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _free_bytes() -> int:
    return psutil.virtual_memory().available
