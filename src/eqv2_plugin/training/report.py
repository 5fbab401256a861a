"""What a finished run leaves behind: metrics, plots, and how to use the checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from fairchem.core.common import distutils
from torchtnt.framework.callback import Callback
from torchtnt.framework.state import State
from torchtnt.framework.unit import TEvalUnit, TTrainUnit
from tqdm import tqdm

from eqv2_plugin.training.baselines import baselines
from eqv2_plugin.training.evaluation import STRESS_MAE, evaluated_metrics, predict_splits
from eqv2_plugin.training.plots import plot_learning_curve, plot_parity
from eqv2_plugin.training.progress import TaskLosses

_INFERENCE_CHECKPOINT = "inference_ckpt.pt"
_COMPARED = (
    ("forces_mae_meV_per_A", "force", "meV/Å"),
    ("energy_mae_meV", "energy", "meV"),
    (STRESS_MAE, "stress", "meV/Å^3"),
)


class RunReport(Callback):
    """Validates, keeps a history, and writes ``results/`` at the end of a run.

    Files: ``inference_ckpt.pt``, ``metrics.json``, ``history.jsonl``,
    ``learning_curve.png``, ``parity_energy.png``, ``parity_forces.png``.

    fairchem's unit evaluates the EMA weights at the end of each epoch (and every
    ``evaluate_every_n_steps``); the history takes its metrics from there.

    Args:
        with_baselines: compare with zero forces and the nearest training frame; reads the
            whole training set, so for small ones only.
        compare_with_start: print how much lower the errors are than at step 0 (fine-tuning).
        facts: copied into ``metrics.json``.
        closing_note: printed last.
        final_dataloader: further splits, predicted once, at the end (a test set).
    """

    def __init__(
        self,
        with_baselines: bool,
        facts: dict[str, str],
        compare_with_start: bool = False,
        closing_note: str | None = None,
        final_dataloader: Any = None,
    ) -> None:
        self.with_baselines = with_baselines
        # A list of a config (new heads) is no JSON.
        plain = (str, int, float, bool, type(None))
        self.facts = {k: v if isinstance(v, plain) else str(v) for k, v in facts.items()}
        self.compare_with_start = compare_with_start
        self.closing_note = closing_note
        self.final_dataloader = final_dataloader
        self.losses: TaskLosses | None = None
        self.checkpoint_dir: Path | None = None

    def set_runner_callbacks(self, save_callback, load_callback, checkpoint_dir: str) -> None:
        """fairchem's hook that tells callbacks the run folder."""
        self.checkpoint_dir = Path(checkpoint_dir)

    @property
    def results(self) -> Path:
        return self.checkpoint_dir.parent / "results"

    def on_train_start(self, state: State, unit: TTrainUnit) -> None:
        self.losses = TaskLosses(unit)
        step = unit.train_progress.num_steps_completed
        if distutils.is_master():
            self.results.mkdir(parents=True, exist_ok=True)
            # Records after the checkpoint that is resumed from will be written again.
            kept = [record for record in self._history() if record["step"] <= step]
            lines = "".join(json.dumps(record) + "\n" for record in (kept if step else []))
            (self.results / "history.jsonl").write_text(lines)
        if step == 0:
            splits = predict_splits(unit, self._loaders(state)[1])
            self._record(unit, {name: split.metrics() for name, split in splits.items()})

    def on_train_step_end(self, state: State, unit: TTrainUnit) -> None:
        self.losses.count_step()

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
            compared = baselines(train.dataset, validation.dataset)
        history = self._history()
        report = {
            "facts": {**self.facts, "parameters": unit.num_params},
            "steps": unit.train_progress.num_steps_completed,
            "splits": metrics,
            "at_start": next((r["splits"] for r in history if r["step"] == 0), None),
            "baselines": compared,
        }
        if history and "denoising" in history[-1]:
            report["denoising"] = history[-1]["denoising"]
        (self.results / "metrics.json").write_text(json.dumps(report, indent=2) + "\n")
        zero = {name: b["zero_forces_mae_meV_per_A"] for name, b in compared.items()}
        plot_learning_curve(history, zero, self.results / "learning_curve.png")
        for kind in ("energy", "forces"):
            if not all(getattr(split, kind) for split in splits.values()):
                continue  # no such task
            plot_parity(splits, kind, metrics, self.results / f"parity_{kind}.png")
        self._copy_checkpoint()
        print(self._summary(report), flush=True)

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
        with (self.results / "history.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        shown = "  ".join(f"{name}: {_errors(m)}" for name, m in record["splits"].items())
        tqdm.write(f"step {step:>7}  {shown}")
        if "denoising" in record:
            figures = ", ".join(f"{k} {v:.3g}" for k, v in sorted(record["denoising"].items()))
            tqdm.write(f"{'':>12}  denoising: {figures}")

    def _history(self) -> list[dict[str, Any]]:
        path = self.results / "history.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]

    def _copy_checkpoint(self) -> None:
        source = self.checkpoint_dir / "final" / _INFERENCE_CHECKPOINT
        if not source.exists():
            raise FileNotFoundError(
                f"{source} was not written: the checkpoint callback must come before RunReport, "
                "with save_inference_ckpt: true"
            )
        shutil.copyfile(source, self.results / _INFERENCE_CHECKPOINT)

    def _summary(self, report: dict[str, Any]) -> str:
        """The table and the lines that close a run."""
        head = f"{'split':<10} {'what':<28} {'forces meV/Å':>13} {'energy meV':>11}"
        lines = ["", head, "-" * len(head)]

        def row(split: str, what: str, forces: float | None, energy: float | None) -> None:
            f = "-" if forces is None else f"{forces:.1f}"
            e = "-" if energy is None else f"{energy:.0f}"
            lines.append(f"{split:<10} {what:<28} {f:>13} {e:>11}")

        for name, m in report["splits"].items():
            row(name, "model", m.get("forces_mae_meV_per_A"), m["energy_mae_meV"])
            start = (report["at_start"] or {}).get(name)
            if start:
                forces = start.get("forces_mae_meV_per_A")
                row(name, "model at start", forces, start["energy_mae_meV"])
            b = report["baselines"].get(name)
            if b:
                row(name, "zero forces", b["zero_forces_mae_meV_per_A"], None)
                near = b["nearest_frame_forces_mae_meV_per_A"]
                row(name, "nearest training frame", near, b["nearest_frame_energy_mae_meV"])
                below = 100 * (1 - m["forces_mae_meV_per_A"] / b["zero_forces_mae_meV_per_A"])
                side = "below" if below >= 0 else "above"
                lines.append(f"{name:<10} force MAE is {abs(below):.0f} % {side} zero forces")
        if self.compare_with_start and report["at_start"]:
            lines += ["", *improvements(report["at_start"], report["splits"])]
        checkpoint = self.results / _INFERENCE_CHECKPOINT
        lines += ["", f"Results (metrics, plots, checkpoint): {self.results}"]
        lines.append(
            f'Use it: FAIRChemCalculator.from_model_checkpoint("{checkpoint}", '
            'inference_settings="batch")'
        )
        if self.closing_note:
            lines += ["", self.closing_note]
        return "\n".join(lines)


def improvements(
    before: dict[str, dict[str, float]], after: dict[str, dict[str, float]]
) -> list[str]:
    """Lines such as "val: force MAE 210.0 -> 95.0 meV/Å: 2.2 times lower".

    Args:
        before, after: metrics per split.
    """
    lines = []
    for split, end in after.items():
        for key, what, unit in _COMPARED:
            if key not in end or key not in before.get(split, {}):
                continue
            old, new = before[split][key], end[key]
            ratio = old / new if new <= old else new / old
            side = "lower" if new <= old else "higher"
            lines.append(
                f"{split}: {what} MAE {old:.1f} -> {new:.1f} {unit}: {ratio:.2f} times {side}"
            )
    return lines


def _errors(metrics: dict[str, float]) -> str:
    """Validation errors in one line."""
    shown = f"energy {metrics['energy_mae_meV']:.0f} meV"
    if "forces_mae_meV_per_A" in metrics:
        shown += f", forces {metrics['forces_mae_meV_per_A']:.1f} meV/Å"
    if STRESS_MAE in metrics:
        shown += f", stress {metrics[STRESS_MAE]:.2f} meV/Å^3"
    return shown
