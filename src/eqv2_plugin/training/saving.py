"""When a training run saves a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from fairchem.core.common import distutils
from fairchem.core.components.callbacks import TrainCheckpointCallback
from torchtnt.framework.state import State
from torchtnt.framework.unit import TTrainUnit

# What a kill may cost: seconds, or a part of the run if that is less.
SECONDS, PART = 300.0, 0.05
# At least so many times as long between two checkpoints as one takes to write.
_TIMES = 30.0
# Steps after which the speed is known.
_FIRST_LOOK = 10


class TimedCheckpoints(TrainCheckpointCallback):
    """fairchem's, whose interval in steps may follow from how long steps take.

    Args:
        checkpoint_every_n_steps: a number, or ``auto``: 5 minutes or a twentieth of the run, what
            is less, and 30 times as long as a checkpoint takes.
        max_saved_checkpoints: older ones are removed.
        clock: seconds.
    """

    def __init__(
        self,
        checkpoint_every_n_steps: int | Literal["auto"],
        max_saved_checkpoints: int = 2,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._auto = checkpoint_every_n_steps == "auto"
        # fairchem's callback saves at each step that it is told of.
        super().__init__(
            1 if checkpoint_every_n_steps == "auto" else checkpoint_every_n_steps,
            max_saved_checkpoints,
        )
        self._clock = clock
        self._saved_at = self._look_at = -1  # steps
        self._since = (0, 0.0)  # step and time from which the speed is measured
        self._cost = 0.0  # seconds that the last checkpoint took

    def on_train_step_start(self, state: State, unit: TTrainUnit) -> None:
        if not self._auto:
            super().on_train_step_start(state, unit)
            return
        step, now = unit.train_progress.num_steps_completed, self._clock()
        if self._look_at < 0:
            self._saved_at, self._look_at, self._since = step, step + _FIRST_LOOK, (step, now)
        elif step >= self._look_at:
            train = state.train_state
            total = train.max_steps or train.max_epochs * len(train.dataloader)
            start, began = self._since
            seconds = (now - began) / max(step - start, 1)
            # All ranks save at once, so one of them decides.
            agreed = [steps_between(seconds, total, self._cost)]
            distutils.broadcast_object_list(agreed, src=0)
            if step >= self._saved_at + agreed[0]:
                super().on_train_step_start(state, unit)
                self._cost = self._clock() - now
                self._saved_at = step
            self._look_at = max(self._saved_at + agreed[0], step + 1)
            self._since = step, self._clock()


def steps_between(seconds_per_step: float, total: int, seconds_to_save: float) -> int:
    """Steps between two checkpoints of a run of ``total`` steps."""
    wanted = min(SECONDS, PART * total * seconds_per_step)
    return max(1, int(max(wanted, _TIMES * seconds_to_save) / max(seconds_per_step, 1e-6)))
