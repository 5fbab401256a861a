"""What a finished run leaves behind: metrics, plots, and how to use the checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from fairchem.core.common import distutils
from fairchem.core.units.mlip_unit.mlip_unit import (
    convert_train_checkpoint_to_inference_checkpoint,
)
from torchtnt.framework.callback import Callback
from torchtnt.framework.state import State
from torchtnt.framework.unit import TEvalUnit, TTrainUnit
from tqdm import tqdm

from eqv2_plugin.common.files import atomic_write, save_json
from eqv2_plugin.training.baselines import baselines
from eqv2_plugin.training.breakdowns import force_errors
from eqv2_plugin.training.callbacks import TaskLosses
from eqv2_plugin.training.checkpoints import FINAL, Sums, load_averages, save_averages
from eqv2_plugin.training.choice import ChooseByValidation
from eqv2_plugin.training.data_sets import data_sets_of
from eqv2_plugin.training.evaluation import evaluated_metrics, predict_splits
from eqv2_plugin.training.loggers import FigureLog, open_log
from eqv2_plugin.training.loss_curve import FILE as LOSSES
from eqv2_plugin.training.loss_curve import LossCurve
from eqv2_plugin.training.plots import plot_force_errors, plot_learning_curve, plot_parity
from eqv2_plugin.training.results import (
    INFERENCE_CHECKPOINT,
    LEARNING_CURVE,
    METRICS,
    History,
    mark_finished,
    unmark,
)
from eqv2_plugin.training.scalar_report import plot_scalar
from eqv2_plugin.training.summary import errors_line, summary


class RunReport(Callback):
    """Keeps a history of validations, and writes ``results/`` at the end of a run.

    fairchem's unit evaluates the EMA weights at the end of each epoch (and every
    ``evaluate_every_n_steps``); the history takes its metrics from there. The last file,
    ``finished.json``, says that all are there.

    Args:
        with_baselines: compare with zero forces and the nearest training frame; reads the
            whole training set, so for small ones only.
        compare_with_start: print how much lower the errors are than at step 0 (fine-tuning).
        facts: copied into ``metrics.json``.
        closing_note: printed last.
        final_dataloader: further splits, predicted once, at the end (a test set).
        logger: see `job_logger`.
    """

    def __init__(
        self,
        with_baselines: bool,
        facts: dict[str, str],
        compare_with_start: bool = False,
        closing_note: str | None = None,
        final_dataloader: Any = None,
        logger: str | None = None,
    ) -> None:
        self.with_baselines = with_baselines
        # A list of a config (new heads) is no JSON.
        plain = (str, int, float, bool, type(None))
        self.facts = {k: v if isinstance(v, plain) else str(v) for k, v in facts.items()}
        self.compare_with_start = compare_with_start
        self.closing_note = closing_note
        self.final_dataloader = final_dataloader
        self.logger = logger
        self.log: FigureLog | None = None
        self.losses: TaskLosses | None = None
        self.curve: LossCurve | None = None
        self.checkpoint_dir = Path()  # fairchem tells it
        # Set by the runner: the checkpoint that the run goes on from.
        self.resumed_from: Path | None = None
        self.started_at: int | None = None
        # Likewise: what chooses the weights.
        self.choice: ChooseByValidation | None = None

    def set_runner_callbacks(self, save_callback, load_callback, checkpoint_dir: str) -> None:
        """fairchem's hook that tells callbacks the run folder."""
        self.checkpoint_dir = Path(checkpoint_dir)

    @property
    def results(self) -> Path:
        return self.checkpoint_dir.parent / "results"

    @property
    def _history(self) -> History:
        return History(self.results)

    def on_train_start(self, state: State, unit: TTrainUnit) -> None:
        self.losses = TaskLosses(unit)
        step = self.started_at = unit.train_progress.num_steps_completed
        train = state.train_state
        steps = train.max_steps or train.max_epochs * len(train.dataloader)
        points = History(self.results, LOSSES)
        self.curve = LossCurve(TaskLosses(unit), points, steps)
        if distutils.is_master():
            self.results.mkdir(parents=True, exist_ok=True)
            unmark(self.results)
            # Records after the checkpoint that is resumed from will be written again.
            self._history.restart(step)
            points.restart(step)
        self.log = open_log(self.logger, self.checkpoint_dir.parent, step)
        if self.resumed_from is not None:
            load_averages(self.resumed_from, self._sums(unit))
        if step == 0:
            splits = predict_splits(unit, self._loaders(state)[1])
            self._record(unit, {name: split.metrics() for name, split in splits.items()})

    def save_averages(self, checkpoint: Path, unit: TTrainUnit) -> None:
        """Keep the sums since the last validation with a checkpoint; call it on all ranks."""
        if self.losses is not None:
            save_averages(checkpoint, self._sums(unit))

    def _sums(self, unit: TTrainUnit) -> dict[str, Sums]:
        assert self.losses is not None
        assert self.curve is not None
        monitor: Sums | None = getattr(unit, "monitor", None)
        own = {"losses": self.losses, "curve": self.curve.losses}
        return own | ({} if monitor is None else {"denoising": monitor})

    def on_train_step_end(self, state: State, unit: TTrainUnit) -> None:
        self.losses.count_step()
        step = unit.train_progress.num_steps_completed
        means = self.curve.count_step(step)
        if self.log is not None and means is not None:
            self.log.log({f"running loss/{name}": mean for name, mean in means.items()}, step)

    def on_eval_epoch_end(self, state: State, unit: TEvalUnit) -> None:
        self._record(unit, evaluated_metrics(unit))

    def on_train_end(self, state: State, unit: TTrainUnit) -> None:
        splits = predict_splits(unit, self._loaders(state)[1])
        if self.final_dataloader is not None:
            splits |= predict_splits(unit, self.final_dataloader)
        if not distutils.is_master():
            return
        metrics = {name: split.metrics() for name, split in splits.items()}
        compared = {}
        if self.with_baselines:
            train, validation = self._loaders(state)
            compared = baselines(train.dataset, validation.dataset, unit.tasks)
        history = self._history.read()
        report = {
            "facts": {**self.facts, "parameters": unit.num_params},
            "steps": unit.train_progress.num_steps_completed,
            "splits": metrics,
            "force_errors": {name: force_errors(split) for name, split in splits.items()},
            "at_start": next((r["splits"] for r in history if r["step"] == 0), None),
            "baselines": compared,
        }
        if len(sets := data_sets_of(unit.tasks)) > 1:
            report["data_sets"] = sets
        if self.choice is not None and self.choice.chosen is not None:
            report["chosen"] = self.choice.chosen
        if history and "denoising" in history[-1]:
            report["denoising"] = history[-1]["denoising"]
        save_json(self.results / METRICS, report)
        zero = {name: b["zero_forces_mae_meV_per_A"] for name, b in compared.items()}
        points = History(self.results, LOSSES).read()
        curve = self.results / LEARNING_CURVE
        if all(split.scalar for split in splits.values()):
            pairs = {name: np.concatenate(split.scalar) for name, split in splits.items()}
            target = str(self.facts.get("target") or "scalar")
            plot_scalar(history, pairs, target, curve, self.results / "parity_scalar.png")
        else:
            plot_learning_curve(history, points, zero, curve)
        if any(report["force_errors"].values()):
            plot_force_errors(report["force_errors"], self.results / "force_errors.png")
        for kind in ("energy", "forces"):
            # Data sets may lack the task.
            having = {name: split for name, split in splits.items() if getattr(split, kind)}
            if having:
                plot_parity(having, kind, metrics, self.results / f"parity_{kind}.png")
        self._copy_checkpoint(report["steps"])
        print(summary(report, self.results, self.compare_with_start, self.closing_note), flush=True)
        if self.log is not None:
            self.log.close()
        mark_finished(self.results, report["steps"])

    @staticmethod
    def _loaders(state: State) -> tuple[Any, Any]:
        return state.train_state.dataloader, state.eval_state.dataloader

    def _record(self, unit: TTrainUnit | TEvalUnit, splits: dict[str, dict[str, float]]) -> None:
        """One validation, into the history and onto the screen."""
        step = unit.train_progress.num_steps_completed
        record: dict[str, Any] = {"step": step, "splits": dict(sorted(splits.items()))}
        if self.losses.steps:
            record["losses"] = self.losses.mean_and_reset()
        monitor = getattr(unit, "monitor", None)
        if monitor is not None and monitor.sums:
            record["denoising"] = monitor.mean_and_reset()
        if not distutils.is_master():
            return
        self._history.append(record)
        if self.log is not None:
            self.log.log(_figures(record), step)
        shown = "  ".join(f"{name}: {errors_line(m)}" for name, m in record["splits"].items())
        tqdm.write(f"step {step:>7}  {shown}")
        if "denoising" in record:
            figures = ", ".join(f"{k} {v:.3g}" for k, v in sorted(record["denoising"].items()))
            tqdm.write(f"{'':>12}  denoising: {figures}")

    def _copy_checkpoint(self, step: int) -> None:
        final = self.checkpoint_dir / FINAL
        source = final / INFERENCE_CHECKPOINT
        resumed = self.resumed_from
        if resumed and resumed.resolve() == final.resolve() and self.started_at == step:
            # The run ended while, or before, fairchem made it.
            _write_inference_checkpoint(final, source)
        if not source.exists():
            raise FileNotFoundError(
                f"{source} was not written: the checkpoint callback must come before RunReport, "
                "with save_inference_ckpt: true"
            )
        with atomic_write(self.results / INFERENCE_CHECKPOINT) as building:
            shutil.copyfile(source, building)


def _figures(record: dict[str, Any]) -> dict[str, float]:
    """A record of the history by names such as "val/forces_mae_meV_per_A"."""
    groups = {**record["splits"], "denoising": record.get("denoising", {})}
    return {f"{group}/{key}": v for group, figures in groups.items() for key, v in figures.items()}


def _write_inference_checkpoint(checkpoint: Path, target: Path) -> None:
    """fairchem's inference checkpoint from the folder of one of training."""
    with atomic_write(target) as building:
        try:
            convert_train_checkpoint_to_inference_checkpoint(str(checkpoint), str(building))
        except RuntimeError as error:
            # torch's word for a full disk.
            raise OSError(str(error)) from error
