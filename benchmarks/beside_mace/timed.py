"""Our side: the recipe's own training with timed steps, and predictions of the test frames."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torchtnt.framework.callback import Callback

from eqv2_plugin.models.region import CompiledRegion
from eqv2_plugin.training.runner import FinetuningRunner


class StepTimer(Callback):
    """Seconds of the processor from asking for a batch to the end of its step; not compilation.

    Args:
        path: file that holds ``seconds``, ``compiling`` and ``after`` (seconds after each step).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.compiling = self.spent = self.start = 0.0
        self.after: list[float] = []

    def on_train_start(self, state: Any, unit: Any) -> None:
        first = CompiledRegion._first

        def timed(*arguments: Any) -> Any:
            start = time.process_time()
            try:
                return first(*arguments)
            finally:
                self.compiling += time.process_time() - start
                # As if nothing had happened in between.
                self.start += time.process_time() - start

        CompiledRegion._first = timed
        next_batch = unit.get_next_train_batch

        def timed_batch(*arguments: Any) -> Any:
            self.start = time.process_time()
            return next_batch(*arguments)

        unit.get_next_train_batch = timed_batch

    def on_train_step_end(self, state: Any, unit: Any) -> None:
        self.spent += time.process_time() - self.start
        self.after.append(round(self.spent, 3))

    def on_train_end(self, state: Any, unit: Any) -> None:
        kept = {"seconds": self.spent, "compiling": self.compiling, "after": self.after}
        self.path.write_text(json.dumps(kept))


class TimedRunner(FinetuningRunner):
    """The recipe's runner with a `StepTimer`, whose file lies in the run's folder."""

    def run(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self.callbacks.insert(0, StepTimer(self._folder / "times.json"))
        super().run()


def predict(checkpoint: Path, frames: Path, written: Path) -> None:
    """Energies and forces of an extxyz, into an ``.npz`` as `sides.errors` reads it."""
    import numpy as np
    from ase.io import read

    from eqv2_plugin.inference.predictor import BatchPredictor, choose_task, open_unit

    unit = open_unit(checkpoint, "cpu", torch.float32)
    model = BatchPredictor(unit, choose_task(unit, None, "task_name=NAME"))
    atoms = read(frames, ":")
    found = [p for i in range(0, len(atoms), 8) for p in model(atoms[i : i + 8])]
    np.savez(
        written,
        energies=np.array([p.energy for p in found]),
        forces=np.concatenate([p.forces for p in found]),
    )


if __name__ == "__main__":
    predict(*map(Path, sys.argv[1:]))
