"""What a run on a property that is no energy reports: errors in the property's own units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from eqv2_plugin.common.figures import COLOURS, TALK, save_png

MAE, RMSE, SPREAD = "scalar_mae", "scalar_rmse", "scalar_std"


def scalar_metrics(pairs: Sequence[np.ndarray]) -> dict[str, float]:
    """Errors of [frames, 2] targets and predictions, and the spread of the targets around their
    mean, which is the RMSE of predicting that."""
    target, predicted = np.concatenate(pairs).astype(float).T
    errors = predicted - target
    return {
        MAE: float(np.abs(errors).mean()),
        RMSE: float(np.sqrt(np.square(errors).mean())),
        SPREAD: float(np.std(target)),
    }


def scalar_line(metrics: Mapping[str, float]) -> str:
    """Validation errors in one line; the RMSE where it is known."""
    shown = f"MAE {metrics[MAE]:.4g}"
    return shown + (f", RMSE {metrics[RMSE]:.4g}" if RMSE in metrics else "")


def scalar_table(report: Mapping[str, Any], checkpoint: Path) -> list[str]:
    """The lines that close a run, from the content of ``metrics.json``."""
    name = report["facts"].get("target") or "scalar"
    head = f"{'split':<10} {'of ' + name:<28} {'MAE':>11} {'RMSE':>11}"
    lines = ["", head, "-" * len(head)]

    def row(split: str, what: str, mae: float | None, rmse: float | None) -> None:
        shown = ["-" if value is None else f"{value:.4g}" for value in (mae, rmse)]
        lines.append(f"{split:<10} {what:<28} {shown[0]:>11} {shown[1]:>11}")

    for split, found in report["splits"].items():
        row(split, "model", found[MAE], found[RMSE])
        if start := (report["at_start"] or {}).get(split):
            row(split, "model at start", start[MAE], start.get(RMSE))
        row(split, "mean of these labels", None, found[SPREAD])
    lines += ["", f"Results (metrics, plots, checkpoint): {checkpoint.parent}"]
    return [*lines, f"Use it: eqv2 predict {checkpoint} STRUCTURES --out table.csv"]


@plt.rc_context(TALK)
def plot_scalar(
    history: Sequence[Mapping[str, Any]],
    pairs: Mapping[str, np.ndarray],
    name: str,
    curve: Path,
    parity: Path,
) -> None:
    """Training loss and validation error against the step; and predictions against labels.

    Args:
        history: records with "step", and "losses" and/or "splits".
        pairs: [frames, 2] labels and predictions of each split.
        name: of the property.
        curve, parity: files (PNG).
    """
    figure, (losses, errors) = plt.subplots(1, 2, figsize=(10.0, 4.3), layout="constrained")
    points = [(r["step"], r["losses"]["scalar"]) for r in history if "losses" in r]
    if points:
        losses.plot(*zip(*points, strict=True), color=COLOURS[0], marker="o", ms=4)
    for colour, split in zip(COLOURS, sorted(pairs), strict=False):
        found = [(r["step"], r["splits"][split][MAE]) for r in history if split in r["splits"]]
        if found:
            errors.plot(*zip(*found, strict=True), color=colour, label=split, marker="o", ms=4)
    losses.set(title="training loss", xlabel="step")
    errors.set(title=f"MAE of {name}", xlabel="step")
    for axis in (losses, errors):
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    errors.legend()
    save_png(figure, curve)
    figure, axes = plt.subplots(
        1, len(pairs), figsize=(4.6 * len(pairs), 4.9), layout="constrained", squeeze=False
    )
    for axis, (split, values) in zip(axes[0], sorted(pairs.items()), strict=True):
        low, high = values.min(), values.max()
        margin = 0.05 * (high - low) or 0.5
        limits = (low - margin, high + margin)
        axis.plot(limits, limits, color="black", lw=0.8)
        axis.scatter(*values.T, s=9, alpha=0.5, color=COLOURS[0], edgecolors="none")
        mae = np.abs(values[:, 1] - values[:, 0]).mean()
        axis.set(title=f"{split}: MAE {mae:.3g}", xlabel=name, ylabel="predicted")
        axis.set(xlim=limits, ylim=limits, aspect="equal")
        axis.grid(alpha=0.3)
    save_png(figure, parity)
