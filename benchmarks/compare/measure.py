"""One row of the comparison: both implementations, alternating."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from compare.cases import MODELS, Case, save_structures, structures
from compare.process import Worker, WorkerError, worker_script

# Megabytes per edge of the reference's forward pass as shipped, as measured; what cannot fit is not
# tried. Frozen, it takes about a fifth.
_REFERENCE_MB = {"31M": 2.3, "83M": 4.0, "153M": 8.5}
_FROZEN, _TRAINING, _THREE_TRAININGS = 0.25, 1.3, 2.5


@dataclass
class Row:
    """What was measured.

    Attributes:
        case: the row.
        seconds: {implementation: clock times}; "reference", "frozen reference", "plugin", and for
            training "recomputing plugin".
        peak: {implementation: MB above what model and structures take}, of the first call in
            inference, of all steps in training (AdamW's moments come after the first).
        difference: largest difference of forces (and of energies) over the largest one, against
            the reference's own spread between two calls.
        floor: seconds that the matrix products alone would take.
        rate: operations per second of a large product, from which the floor follows.
        note: why a part is missing.
        complete: nothing failed.
    """

    case: Case
    seconds: dict[str, list[float]] = field(default_factory=dict)
    peak: dict[str, float] = field(default_factory=dict)
    difference: tuple[float, float] | None = None
    floor: float | None = None
    rate: float | None = None
    note: str = ""
    complete: bool = True
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Row:
        values = json.loads(text)
        return cls(**{**values, "case": Case(**values["case"])})

    def median(self, name: str) -> float | None:
        return statistics.median(self.seconds[name]) if self.seconds.get(name) else None


def needed_mb(model: str, implementation: str, work: str, edges: int) -> float:
    """Megabytes that "reference" or "frozen reference" needs for so many edges."""
    shipped = _REFERENCE_MB[model] * edges
    if work == "training":
        return _TRAINING * shipped
    return shipped * (_FROZEN if implementation == "frozen reference" else 1.0)


def measure(
    case: Case, reference_python: Path, repeats: int, device: str, precision: str, limit_mb: float
) -> Row:
    """Measure one row; what runs out of memory is left out with a note."""
    row = Row(case)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        atoms = structures(case.system)
        save_structures(scratch / "structures.npz", atoms)
        edges = 21 * sum(len(a) for a in atoms)
        baselines = ["reference"] + ["frozen reference"] * (case.work == "inference")
        needs = {name: needed_mb(case.model, name, case.work, edges) for name in baselines}
        left_out = {name for name, need in needs.items() if need > limit_mb}
        if "reference" in left_out:
            row.note = f"as shipped, the reference would need {needs['reference'] / 1024:.0f} GB"
        commands = {"reference": [str(reference_python), worker_script("reference")]}
        commands["plugin"] = [sys.executable, worker_script("plugin")]
        if case.work == "training":
            # Between its steps each process keeps most of what one took.
            if _THREE_TRAININGS / _TRAINING * needs["reference"] < limit_mb:
                commands["recomputing plugin"] = [*commands["plugin"], "--recompute"]
            else:
                row.note = "no memory for a third process"
        workers: dict[str, Worker] = {}
        base: dict[str, float] = {}
        try:
            for name, command in commands.items():
                workers[name] = Worker(command, case.threads, case.allocator)
                answer = workers[name].ask(
                    "load", config=MODELS[case.model], weights=str(scratch / "weights.pt"),
                    threads=case.threads, precision=precision,
                )  # fmt: skip
                row.versions = answer["versions"]
                file = str(scratch / "structures.npz")
                answer = workers[name].ask("structures", file=file, device=device)
                base[name] = answer["memory"]
            if "frozen reference" not in left_out:
                _compare(row, workers, scratch)
            _time(row, workers, base, repeats, precision, left_out)
            arithmetic = workers["plugin"].ask("arithmetic", precision=precision)
            row.rate = arithmetic["flop_per_second"]
            row.floor = arithmetic["flop"] / row.rate
            if case.work == "training":
                row.floor *= 3  # each product has two derivatives
        except WorkerError as error:
            row.note = str(error).strip().splitlines()[-1]
            row.complete = False
        finally:
            for worker in workers.values():
                worker.close()
    return row


def _compare(row: Row, workers: dict[str, Worker], scratch: Path) -> None:
    """Outputs of the reference, twice (its edge frames are drawn again), and of the plugin."""
    found = []
    for index, name in enumerate(("reference", "reference", "plugin")):
        path = str(scratch / f"outputs{index}.npz")
        workers[name].ask("inference", frozen=True, precision="fp32", outputs=path)
        found.append(dict(np.load(path)))
    row.difference = tuple(
        max(_relative(found[0][name], other[name]) for name in ("forces", "energy"))
        for other in found[:0:-1]
    )
    own, spread = row.difference
    if own > 10 * spread + 1e-5:
        raise WorkerError(f"outputs differ by {own:.1e}, the reference's own by {spread:.1e}")


def _relative(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / np.abs(one).max())


def _time(
    row: Row,
    workers: dict[str, Worker],
    base: dict[str, float],
    repeats: int,
    precision: str,
    left_out: set[str],
) -> None:
    calls: dict[str, tuple[Worker, dict[str, Any]]] = {}
    if row.case.work == "training":
        for name, worker in workers.items():
            calls[name] = worker, {"do": "training"}
    else:
        calls["plugin"] = workers["plugin"], {"do": "inference", "frozen": False}
        calls["frozen reference"] = workers["reference"], {"do": "inference", "frozen": True}
        calls["reference"] = workers["reference"], {"do": "inference", "frozen": False}
    calls = {name: call for name, call in calls.items() if name not in left_out}
    for repeat in range(repeats + 1):
        for name, (worker, request) in calls.items():
            answer = worker.ask(precision=precision, **request)
            if repeat == 0 or row.case.work == "training":
                # In inference only the first, for an allocator may keep what it used.
                peak = answer["memory_peak"] - base[name.removeprefix("frozen ")]
                row.peak[name] = max(peak, row.peak.get(name, 0.0))
            if repeat > 0:  # the first calls warm everything up
                row.seconds.setdefault(name, []).append(answer["wall"])
