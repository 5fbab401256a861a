"""Beside fairchem-core 1.10, as shipped and frozen, and beside eSCN-MD: times and memory.

Each implementation lives in a process of its own; of one row each has the device for itself.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare.cases import WITH_TINY, save_structures
from compare.measure import needed_mb
from compare.process import Worker, WorkerError, worker_script
from session.models import slabs
from session.setting import Jobs, Setting

_REPEATS = 5
_ESCNMD = {"layers": 4, "lmax": 2, "mmax": 2, "ff_type": "spectral"}
# (model, structures, atoms of each, work, precisions), in order of value.
_ROWS = [
    ("31M", 1, 70, "inference", "fp32 tf32"),
    ("31M", 1, 70, "training", "fp32 tf32 bf16"),
    ("31M", 32, 70, "inference", "fp32 tf32 bf16"),
    ("31M", 8, 70, "training", "fp32 tf32 bf16"),
    ("83M", 1, 70, "inference", "fp32 tf32"),
    ("eSCN-MD K4 L2 direct", 1, 70, "inference", "tf32"),
    ("eSCN-MD K4 L2 direct", 64, 70, "inference", "tf32"),
    ("31M", 64, 70, "inference", "fp32 tf32 bf16"),
    ("31M", 8, 70, "inference", "fp32 tf32 bf16"),
    ("83M", 8, 70, "inference", "fp32 tf32 bf16"),
    ("83M", 8, 70, "training", "fp32 bf16"),
    ("31M", 1, 500, "inference", "fp32 tf32"),
    ("31M", 1, 2000, "inference", "fp32 tf32 bf16"),
    ("31M", 32, 70, "training", "fp32 tf32 bf16"),
    ("eSCN-MD K4 L2 direct", 8, 70, "training", "tf32"),
    ("eSCN-MD K4 L2 conservative", 1, 70, "inference", "tf32"),
    ("eSCN-MD K4 L2 conservative", 64, 70, "inference", "tf32"),
]
_TINY_ROWS = [
    ("tiny", 1, 18, "inference", "fp32"),
    ("tiny", 2, 18, "training", "fp32"),
    ("eSCN-MD K4 L2 direct", 1, 18, "inference", "fp32"),
]


def jobs(setting: Setting) -> Jobs:
    """One row per model, system, work and precision."""
    with tempfile.TemporaryDirectory() as folder, _Workers(setting, Path(folder)) as workers:
        rows = _TINY_ROWS if setting.tiny else _ROWS
        for model, count, atoms, work, precisions in rows:
            for precision in precisions.split():
                name = f"{model}, {count} x {atoms}, {work}, {precision}"
                yield name, partial(workers.row, model, count, atoms, work, precision)


class _Workers:
    """Processes, made when they are first needed; each holds one model at a time."""

    def __init__(self, setting: Setting, scratch: Path) -> None:
        self.setting = setting
        self.scratch = scratch
        self.workers: dict[str, Worker] = {}
        self.models: dict[str, str] = {}

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self.workers.values():
            worker.close()

    def row(self, model: str, count: int, atoms: int, work: str, precision: str) -> dict[str, Any]:
        """Milliseconds (median, spread), MB above model and structures, ratios, differences."""
        structures = slabs(count, atoms)
        save_structures(self.scratch / "structures.npz", structures)
        if model.startswith("eSCN-MD"):
            ways: dict[str, bool] = {"escnmd": True}
        else:
            ways = {"plugin": True}
            if self.setting.reference is not None:
                ways |= {"reference": False} | ({"frozen": True} if work == "inference" else {})
        found: dict[str, Any] = {}
        seconds, outputs = {}, {}
        for way, frozen in ways.items():
            try:
                if way in ("reference", "frozen") and self._too_large(model, way, work, structures):
                    found[f"{way} ms"] = "too large"
                    continue
                seconds[way], found[f"{way} MB"], outputs[way] = self._measure(
                    way, model, work, precision, frozen
                )
            except WorkerError as error:
                self._drop("reference" if way == "frozen" else way)
                found[f"{way} ms"] = str(error).strip().splitlines()[-1][:120]
                continue
            times = [1e3 * value for value in seconds[way]]
            middle = statistics.median(times)
            found[f"{way} ms"] = f"{middle:.1f} ({min(times):.1f} to {max(times):.1f})"
        for way in ("reference", "frozen"):
            if way in seconds and "plugin" in seconds:
                ratio = statistics.median(seconds[way]) / statistics.median(seconds["plugin"])
                found[f"times as fast as {way}"] = ratio
        other = outputs.get("frozen")
        if other is not None and "plugin" in outputs:
            for key, value in other.items():
                gap = np.abs(outputs["plugin"][key] - value).max() / np.abs(value).max()
                found[f"difference of {key}"] = float(gap)
        return found

    def _measure(
        self, way: str, model: str, work: str, precision: str, frozen: bool
    ) -> tuple[list[float], float, dict[str, np.ndarray] | None]:
        worker = self._worker("reference" if way == "frozen" else way, model)
        file = self.scratch / "structures.npz"
        before = worker.ask("structures", file=str(file), device=self.setting.device)["memory"]
        request: dict[str, Any] = {"do": work, "precision": precision}
        outputs = None
        if work == "inference":
            request["frozen"] = frozen
            path = self.scratch / "outputs.npz"
            worker.ask(**request, outputs=str(path))
            outputs = dict(np.load(path))
        answers = [worker.ask(**request) for _ in range(1 if self.setting.tiny else _REPEATS + 1)]
        worker.ask("release")
        peak = max(answer["memory_peak"] for answer in answers) - before
        return [answer["wall"] for answer in answers[1:] or answers], round(peak), outputs

    def _worker(self, kind: str, model: str) -> Worker:
        """With the model loaded, and the weights that the reference drew, if there is one."""
        if kind == "plugin" and self.setting.reference is not None:
            self._worker("reference", model)
        if kind not in self.workers:
            command = [sys.executable]
            if kind == "reference":
                command = self.setting.reference_command or command
            self.workers[kind] = Worker([*command, worker_script(kind)], 8, "tuned")
        if self.models.get(kind) != model:
            config = WITH_TINY.get(model)
            if config is None:
                config = {**_ESCNMD, "conservative": model.endswith("conservative")}
            weights = str(self.scratch / f"weights-{model}.pt")
            self.workers[kind].ask(
                "load", config=config, weights=weights, threads=8, precision="fp32"
            )
            self.models[kind] = model
        return self.workers[kind]

    def _drop(self, kind: str) -> None:
        """A worker that failed may hold memory."""
        if kind in self.workers:
            self.workers.pop(kind).close()
            self.models.pop(kind, None)

    def _too_large(self, model: str, way: str, work: str, structures: list[Any]) -> bool:
        if self.setting.device != "cuda":
            return False
        edges = 21 * sum(len(atoms) for atoms in structures)
        kind = "frozen reference" if way == "frozen" else "reference"
        return needed_mb(model, kind, work, edges) > 0.8 * torch.cuda.mem_get_info()[1] / 2**20
