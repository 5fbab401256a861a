"""Seconds per structure, and how many structures fit into one batch."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import torch
from ase import Atoms

from eqv2_plugin.common.findings import Verdict
from eqv2_plugin.doctor.examination import Examination, Outcome
from eqv2_plugin.inference.predictor import Predict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHARE = 0.15  # of the time of all checks

# Stop before a batch that may need more than this share of the memory that is free.
_MEMORY_SHARE = 0.5


@dataclass(frozen=True)
class Timings:
    """Batches of one structure, each twice as large as the one before."""

    sizes: list[int]  # structures in the batch
    seconds: list[float]  # per structure
    stopped: str  # why there was no larger batch
    # Whether it was the memory of the device that said no; otherwise larger ones may be possible.
    is_limit: bool
    peak_bytes: int  # most memory in use, of the device or of this process


def speed(exam: Examination) -> Outcome:
    """Of the smallest structure, alone and in batches."""
    subject, atoms, share = exam.subject, exam.smallest, _SHARE * exam.seconds
    exam.measured["timings"] = found = time_batches(
        subject.predict, atoms, subject.device, share, exam.clock
    )
    text = (
        f"{len(atoms)} atoms: {found.seconds[0]:.3g} s alone, {min(found.seconds):.3g} s at best "
        f"in a batch; largest batch on this {subject.device}: "
        f"{'' if found.is_limit else 'at least '}{found.sizes[-1]} ({found.stopped})"
    )
    numbers = {
        "seconds_alone": found.seconds[0],
        "seconds_best": min(found.seconds),
        "largest_batch": float(found.sizes[-1]),
        "largest_batch_is_limit": float(found.is_limit),
        "atoms": float(len(atoms)),
        "peak_bytes": float(found.peak_bytes),
    }
    return Verdict.INFO, text, numbers


def plot(axis: Axes, timings: Timings) -> None:
    """Time against the size of the batch."""
    axis.plot(timings.sizes, timings.seconds, marker="o", ms=4)
    axis.set_xscale("log", base=2)
    axis.set_xticks(timings.sizes, [str(size) for size in timings.sizes])
    axis.set_ylim(0, None)


def time_batches(
    predict: Predict,
    atoms: Atoms,
    device: str,
    limit_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Double the batch until time or memory ends.

    No batch is begun that would, at the speed of the last one, end after ``limit_s``. ``predict``
    is called once to warm up, then once per batch size.
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
