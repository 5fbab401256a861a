"""A batch limit from what a model call takes of the device's memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType

import psutil
import torch
from ase import Atoms

from eqv2_plugin.inference.batch_size import BatchLimit
from eqv2_plugin.inference.predictor import Device, Predict
from eqv2_plugin.inference.resilient import STRUCTURE_FAULTS

# Batches grow no further than this where memory allows: on a CPU the time per structure stops
# falling there (docs/relaxations.md), and what a killed job loses grows with the batch.
MOST_ATOMS: dict[Device, int] = {"cpu": 320, "cuda": 16_000}
# Part of the free memory that a batch may take: structures differ from those measured.
_SHARE = 0.6
_PROBES = 4


class PeakMemory:
    """Measures how far memory rises within a ``with`` block.

    On a GPU torch counts, on a CPU the Linux kernel does; elsewhere a thread looks at the process
    every millisecond, and may miss a short peak.

    Args:
        device: "cpu" or "cuda".

    Attributes:
        bytes: the rise, once the block has ended.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.bytes = 0

    def __enter__(self) -> PeakMemory:
        self._thread = None
        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._start = torch.cuda.memory_allocated()
            return self
        counted = reset_kernel_peak()
        self._start = self._highest = psutil.Process().memory_info().rss
        if not counted:
            self._ended = threading.Event()
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
            self._highest = torch.cuda.max_memory_allocated()
        elif self._thread is None:
            self._highest = max(self._highest, _kernel_peak())
        else:
            self._ended.set()
            self._thread.join()
        self.bytes = self._highest - self._start

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._ended.wait(0.001):
            self._highest = max(self._highest, process.memory_info().rss)
        self._highest = max(self._highest, process.memory_info().rss)


def reset_kernel_peak() -> bool:
    """Let Linux count this process's peak memory anew; False where it does not."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _kernel_peak() > 0
    except (OSError, LookupError):
        return False


def _kernel_peak() -> int:
    """Bytes. Raises OSError or LookupError where the kernel does not tell."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return 1024 * int(fields["VmHWM"].split()[0])


def free_memory(device: Device) -> int:
    """Bytes that a batch could take now."""
    if device == "cpu":
        return int(psutil.virtual_memory().available)
    free, _ = torch.cuda.mem_get_info()
    return int(free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated())


def find_limit(predict: Predict, structures: Iterable[Atoms], device: Device) -> BatchLimit:
    """Measure model calls of one and of a few structures, and see how many atoms fit.

    Args:
        predict: the model.
        structures: those to relax; the first few that the model does not refuse are predicted.
        device: where the model is.

    Returns:
        A limit of atoms, at most `MOST_ATOMS`.
    """
    probes = list(islice(_predictable(predict, structures), _PROBES))
    if not probes:
        return BatchLimit(atoms=MOST_ATOMS[device])
    peaks = []
    for some in (probes[:1], probes):
        with PeakMemory(device) as peak:
            predict(some)
        peaks.append(peak.bytes)
    atoms = sum(len(structure) for structure in probes)
    return limit_from_peak(max(peaks), atoms, free_memory(device), MOST_ATOMS[device])


def _predictable(predict: Predict, structures: Iterable[Atoms]) -> Iterator[Atoms]:
    for atoms in structures:
        try:
            predict([atoms])
        except STRUCTURE_FAULTS:
            continue  # it will be reported when its turn comes
        yield atoms


def limit_from_peak(peak: int, atoms: int, free: int, most: int) -> BatchLimit:
    """Atoms that fit, when ``atoms`` of them take ``peak`` bytes and ``free`` bytes are free.

    Memory that an allocator kept from earlier calls does not show as a rise. So what is
    measured may be too little, and ``most`` atoms are never exceeded.
    """
    if peak <= 0:
        return BatchLimit(atoms=most)
    return BatchLimit(atoms=max(1, min(most, int(_SHARE * free * atoms / peak))))
