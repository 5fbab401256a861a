"""How many structures go through the model at once: a limit, given or from the device's memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import torch
from ase import Atoms

from eqv2_plugin.inference.predictor import Device, Predict
from eqv2_plugin.inference.resilient import STRUCTURE_FAULTS

# Batches grow no further than this where memory allows: on a CPU the time per structure stops
# falling there (docs/relaxations.md), and what a killed job loses grows with the batch.
MAX_ATOMS: dict[Device, int] = {"cpu": 320, "cuda": 16_000}
# Part of the free memory that a batch may take: structures differ from those measured.
_SHARE = 0.6
_PROBES = 4


@dataclass(frozen=True)
class BatchLimit:
    """The largest batch. At least one of the two is given; a single structure always fits."""

    structures: int | None = None  # at most
    atoms: int | None = None  # at most, of all structures together

    def __post_init__(self) -> None:
        if self.structures is None and self.atoms is None:
            raise ValueError("a batch limit needs a number of structures or of atoms")
        for name in ("structures", "atoms"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"a batch must hold at least 1 of {name}, got {value!r}")

    def fits(self, moving: Sequence[Atoms], another: Atoms) -> bool:
        """Whether ``another`` structure has room beside those that are moving."""
        if not moving:
            return True
        if self.structures is not None and len(moving) >= self.structures:
            return False
        atoms = len(another) + sum(len(other) for other in moving)
        return self.atoms is None or atoms <= self.atoms

    def __str__(self) -> str:
        limits = {"structures": self.structures, "atoms": self.atoms}
        return " and ".join(f"at most {n:,} {what}" for what, n in limits.items() if n is not None)


class PeakMemory:
    """Measures how far memory rises within a ``with`` block, ``bytes``.

    On a GPU torch counts, on a CPU the Linux kernel does; elsewhere a thread looks at the process
    every millisecond, and may miss a short peak.
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

    def __exit__(self, *error: Any) -> None:
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
        process, ended = psutil.Process(), False
        while not ended:
            ended = self._ended.wait(0.001)
            self._highest = max(self._highest, process.memory_info().rss)


def reset_kernel_peak() -> bool:
    """Let Linux count this process's peak memory from now on; False where it does not."""
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

    The first few that the model does not refuse are predicted; at most `MAX_ATOMS`.
    """
    probes = list(islice(_predictable(predict, structures), _PROBES))
    if not probes:
        return BatchLimit(atoms=MAX_ATOMS[device])
    peaks = []
    for some in (probes[:1], probes):
        with PeakMemory(device) as peak:
            predict(some)
        peaks.append(peak.bytes)
    atoms = sum(len(structure) for structure in probes)
    return limit_from_peak(max(peaks), atoms, free_memory(device), MAX_ATOMS[device])


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
