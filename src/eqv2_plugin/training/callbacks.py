"""What happens around each step: seeds, sums of losses, and the progress bar."""

from __future__ import annotations

import sys
import time

import torch
from fairchem.core.common import distutils
from fairchem.core.common.distutils import get_device_for_local_rank
from torchtnt.framework.callback import Callback
from torchtnt.framework.state import State
from torchtnt.framework.unit import TEvalUnit, TTrainUnit
from tqdm import tqdm

from eqv2_plugin.common.progress import bar, passing_bar
from eqv2_plugin.common.ranks import own_part, step_seed

# Beside the names of tasks.
_STEPS = "number of steps"
# Steps over which the losses that are shown are averaged.
_AVERAGED = 50


class SeedEveryStep(Callback):
    """Seeds torch before each step from (seed, rank, step).

    Checkpoints do not hold the state of random number generators. With this, a resumed run draws
    the same dropout masks as an uninterrupted one, and ranks draw different ones.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_step_start(self, state: State, unit: TTrainUnit) -> None:
        step = unit.train_progress.num_steps_completed
        torch.manual_seed(step_seed(self.seed, distutils.get_rank(), step))


class TaskLosses:
    """Records the loss of each task at every step, with a forward hook on it.

    fairchem's training step keeps only the sum over the tasks.
    """

    def __init__(self, unit: TTrainUnit) -> None:
        self.last: dict[str, torch.Tensor] = {}
        # Numbers where they come from a checkpoint.
        self.sums: dict[str, torch.Tensor | float] = {}
        self.steps = 0
        for task in unit.tasks:
            task.loss_fn.register_forward_hook(self._recorder(task.name))

    def _recorder(self, name: str):
        def record(module, inputs, output) -> None:
            if torch.is_grad_enabled():
                self.last[name] = output.detach()

        return record

    def count_step(self) -> None:
        """Take the losses of the step that has just ended into the mean."""
        self.steps += 1
        for name, value in self.last.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def mean_and_reset(self) -> dict[str, float]:
        """Mean losses since the last call, over all ranks (call it on each of them)."""
        device = get_device_for_local_rank()
        means = {
            name: float(
                distutils.all_reduce(
                    torch.as_tensor(value, device=device) / max(self.steps, 1), average=True
                )
            )
            for name, value in self.sums.items()
        }
        self.sums, self.steps = {}, 0
        return means

    def state(self) -> dict[str, float]:
        """The sums so far, and ``steps``, which no task is called."""
        return {name: float(value) for name, value in self.sums.items()} | {_STEPS: self.steps}

    def restore(self, ranks: list[dict[str, float]], rank: int, count: int) -> None:
        """Go on from the `state` of every rank, as the ``rank``-th of ``count``."""
        # Ranks average these, so each may go on from the mean.
        self.sums = dict(own_part(ranks, rank, count, divisor=len(ranks)))
        self.steps = int(self.sums.pop(_STEPS))


class ProgressBar(Callback):
    """tqdm bar on the first rank, with the facts of the run printed once before it.

    Losses are averages over the last 50 steps or so. Numbers change every ``refresh_seconds`` (at
    most once a step); where the output is no terminal, a line is written every 15 s. A validation
    that takes longer than that has a bar of its own.
    """

    def __init__(self, facts: dict[str, str], refresh_seconds: float = 0.5) -> None:
        self.facts = facts
        self.refresh_seconds = refresh_seconds
        self.losses: TaskLosses | None = None
        self.bar: tqdm | None = None
        self.second_line: tqdm | None = None  # of a terminal, for DeNS
        self.validation: tqdm | None = None
        self.averages: dict[str, torch.Tensor] = {}  # of the losses
        self.averaged = 0  # steps
        self.shown = 0.0
        self.samples = 0
        self.since = 0.0

    def on_train_start(self, state: State, unit: TTrainUnit) -> None:
        self.losses = TaskLosses(unit)
        if not distutils.is_master():
            return
        device = next(unit.model.parameters()).device
        facts = {
            **self.facts,
            "device": f"{device.type}, {distutils.get_world_size()} rank(s)",
            "parameters": f"{unit.num_params:,}",
        }
        for name, value in facts.items():
            print(f"{name:>18}: {value}", flush=True)
        loader = state.train_state.dataloader
        total = state.train_state.max_steps or state.train_state.max_epochs * len(loader)
        done = unit.train_progress.num_steps_completed
        self.bar = bar(total, "step", self.refresh_seconds, initial=done)
        if sys.stderr.isatty() and hasattr(unit, "monitor"):
            self.second_line = tqdm(bar_format="{desc}", position=1, dynamic_ncols=True)
        self.since = self.shown = time.monotonic()

    def on_train_get_next_batch_end(self, state: State, unit: TTrainUnit) -> None:
        self.samples += 1

    def on_train_step_end(self, state: State, unit: TTrainUnit) -> None:
        if self.bar is None:
            return
        self._average()
        now = time.monotonic()
        if now - self.shown >= self.refresh_seconds:
            sampler = state.train_state.dataloader.batch_sampler
            per_step = sampler.per_rank * distutils.get_world_size()
            rate = self.samples * per_step / max(now - self.since, 1e-9)
            figures = {name: f"{float(loss):.3g}" for name, loss in self.averages.items()}
            figures["lr"] = f"{unit.optimizer.param_groups[0]['lr']:.1e}"
            figures["samples/s"] = f"{rate:.1f}"
            shown = [", ".join(f"{name}={value}" for name, value in figures.items())]
            denoising = unit.monitor.recent_line() if hasattr(unit, "monitor") else ""
            if self.second_line is not None:
                self.second_line.set_description_str(denoising)
            elif denoising:
                shown.append(denoising)
            self.bar.set_postfix_str("; ".join(shown), refresh=False)
            self.shown = self.since = now
            self.samples = 0
        self.bar.update(1)

    def _average(self) -> None:
        self.averaged = min(self.averaged + 1, _AVERAGED)
        for name, loss in self.losses.last.items():
            before = self.averages.get(name, loss)
            self.averages[name] = before + (loss - before) / self.averaged

    def on_eval_start(self, state: State, unit: TEvalUnit) -> None:
        self.validation = passing_bar(len(state.eval_state.dataloader), "batch", "validation ")

    def on_eval_step_end(self, state: State, unit: TEvalUnit) -> None:
        self.validation.update(1)

    def on_eval_epoch_end(self, state: State, unit: TEvalUnit) -> None:
        # Before lines are written, for which tqdm draws all bars again.
        self.validation.close()

    def on_eval_end(self, state: State, unit: TEvalUnit) -> None:
        # The time spent on validation is not training speed.
        self.since, self.samples = time.monotonic(), 0

    def on_train_end(self, state: State, unit: TTrainUnit) -> None:
        for line in (self.second_line, self.bar):
            if line is not None:
                line.close()
