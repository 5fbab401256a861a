"""Relaxations one by one with fairchem's calculator, and in batches: speed, and where they end."""

from __future__ import annotations

import time
from functools import cache, partial
from typing import Any

import numpy as np
import relaxation
import torch
from fairchem.core import FAIRChemCalculator
from session.models import random_checkpoint, synchronize
from session.setting import Jobs, Setting

from eqv2_plugin.inference.predictor import BatchPredictor, choose_task, open_unit
from eqv2_plugin.inference.settings import RelaxationSettings


def jobs(setting: Setting) -> Jobs:
    """One row per model, way and precision; positions against one by one of the same precision."""
    ways = (0, 2) if setting.tiny else (0, 8, 32, 64)
    for name in ("tiny",) if setting.tiny else ("31M",):
        for dtype in ("float32",) if setting.tiny else ("float32", "float64"):
            on = _On(setting, name, dtype)
            for size in ways if dtype == "float32" else (0, 8):
                way = f"batches of {size}" if size else "one by one"
                yield f"{name}, {dtype}, {way}", partial(on.row, size)


class _On:
    """One model in one precision."""

    def __init__(self, setting: Setting, name: str, dtype: str) -> None:
        self.setting, self.name, self.dtype = setting, name, dtype
        self.count, self.steps = (2, 2) if setting.tiny else (64, 6)
        if dtype == "float64":
            self.count = 16

    @cache  # noqa: B019 lives as long as the process
    def predictor(self) -> BatchPredictor:
        folder = self.setting.folder / "models"
        path = random_checkpoint(self.name, folder / f"{self.name}.safetensors")
        unit = open_unit(path, self.setting.device, getattr(torch, self.dtype))
        return BatchPredictor(unit, choose_task(unit, None))

    @cache  # noqa: B019
    def outcome(self, size: int) -> tuple[dict[str, relaxation.Outcome], float]:
        """Of so many at a time (0: one by one), and seconds."""
        settings = RelaxationSettings(fmax=1e-6, steps=self.steps, maxstep=0.04, memory=50)
        job, predict = relaxation.structures(self.count), self.predictor()
        predict([atoms for _, atoms in job[: max(size, 1)]])  # warm up
        synchronize(self.setting.device)
        start = time.perf_counter()
        if size:
            found = relaxation.batched(job, predict, settings, size)
        else:
            calculator = FAIRChemCalculator(predict.unit, task_name=predict.task_name)
            found = relaxation.one_by_one(job, calculator, settings)
        return found, time.perf_counter() - start

    def row(self, size: int) -> dict[str, Any]:
        found, seconds = self.outcome(size)
        row: dict[str, Any] = {
            "structures": self.count,
            "steps": self.steps,
            "seconds": seconds,
            "structures x steps per second": self.count * self.steps / seconds,
        }
        if size:
            alone, spent = self.outcome(0)
            apart = {
                key: np.abs(found[key].positions - alone[key].positions).max() for key in alone
            }
            row["times as fast as one by one"] = spent / seconds
            row["largest distance, Å"] = float(max(apart.values()))
            row["structures beyond 1e-4 Å"] = int(sum(value > 1e-4 for value in apart.values()))
        return row
