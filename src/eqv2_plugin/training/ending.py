"""Ctrl-C and SIGTERM during a training run: what is done is saved, and said."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from fairchem.core.common import distutils
from torchtnt.framework.callback import Callback
from torchtnt.framework.state import State
from torchtnt.framework.unit import TEvalUnit, TTrainUnit

from eqv2_plugin.common.signals import end, ends_with, tell
from eqv2_plugin.training.checkpoints import FINAL, last_complete


class EndOnSignal(Callback):
    """Saves a checkpoint after the step in which a signal came, and ends the run.

    Elsewhere (validation, results), and with several ranks, of which one alone cannot save, the run
    ends at once; what counts is the last checkpoint. It must be the last callback.

    Args:
        checkpoints: the run's folder for them.
        save: the runner's, into a folder below.
    """

    def __init__(self, checkpoints: Path, save: Callable[[str], Any]) -> None:
        self._checkpoints = checkpoints
        self._save = save
        self._steps = False  # whether the loop over steps is running
        self._asked: int | None = None  # number of the signal that was put off

    def signals(self) -> AbstractContextManager[None]:
        """While this lasts, signals are answered so."""
        return ends_with(self.kept, self._put_off)

    def kept(self) -> str:
        """What there is to go on from."""
        last = last_complete(self._checkpoints)
        if last is None:
            return "nothing was saved yet; the same command begins again"
        if last.name == FINAL:
            return f"the run is trained ({last}); the same command writes its results"
        return f"saved is {last}; the same command goes on from there"

    def on_train_start(self, state: State, unit: TTrainUnit) -> None:
        self._steps = True

    def on_train_step_end(self, state: State, unit: TTrainUnit) -> None:
        if self._asked is None:
            return
        step, validation = unit.train_progress.num_steps_completed, state.eval_state
        every = validation.evaluate_every_n_steps if validation is not None else None
        if every and step % every == 0:
            # A run that goes on from here would leave out this validation, in which it ends.
            return
        self._save(str(self._checkpoints / f"step_{step}"))
        end(self._asked, self.kept())

    def on_train_epoch_end(self, state: State, unit: TTrainUnit) -> None:
        self._steps = _goes_on(state, unit)

    def on_eval_start(self, state: State, unit: TEvalUnit) -> None:
        self._steps = False
        if self._asked is not None:
            end(self._asked, self.kept())

    def on_eval_end(self, state: State, unit: TEvalUnit) -> None:
        self._steps = _goes_on(state, unit)

    def _put_off(self, number: int) -> bool:
        if not self._steps or distutils.get_world_size() > 1:
            return False
        self._asked = number
        tell("the run ends after this step, and saves it; once more, and it ends at once")
        return True


def _goes_on(state: State, unit: Any) -> bool:
    train, progress = state.train_state, unit.train_progress
    epochs, steps = progress.num_epochs_completed, progress.num_steps_completed
    done = train.max_epochs is not None and epochs >= train.max_epochs
    return not done and (train.max_steps is None or steps < train.max_steps)
