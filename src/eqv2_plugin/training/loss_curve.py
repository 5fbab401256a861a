"""Running means of the training losses, often enough for a curve of a single epoch."""

from __future__ import annotations

import math

from fairchem.core.common import distutils

from eqv2_plugin.training.callbacks import TaskLosses
from eqv2_plugin.training.results import History

FILE = "losses.jsonl"
_POINTS = 100


class LossCurve:
    """Writes the mean losses of every hundredth part of a run, as a line of JSON.

    Args:
        losses: of the steps; nobody else may reset them.
        history: where the lines go.
        steps: of the whole run.
    """

    def __init__(self, losses: TaskLosses, history: History, steps: int) -> None:
        self.losses = losses
        self.history = history
        self.every = max(1, math.ceil(steps / _POINTS))

    def count_step(self, step: int) -> dict[str, float] | None:
        """Take in the losses of ``step``; call it on all ranks.

        Returns:
            The means since the point before, where this step is a point.
        """
        self.losses.count_step()
        if step % self.every:
            return None
        means = self.losses.mean_and_reset()
        if distutils.is_master():
            self.history.append({"step": step, "losses": means})
        return means
