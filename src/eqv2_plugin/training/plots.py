"""Pictures of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from eqv2_plugin.common.files import atomic_write
from eqv2_plugin.training.evaluation import SplitPredictions

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_COLOURS = ("#1b6ca8", "#d1495b", "#3c896d", "#8d6a9f")
# Panels of a DeNS run: title, and the monitor's figures with their labels.
_DENOISING_PANELS = (
    (
        "denoising: noise",
        {
            "noise_mae_sigma": "MAE / sigma",
            "noise_rmse_sigma": "RMSE / sigma",
            "noise_cosine": "cosine",
        },
    ),
    (
        "training batches: errors, meV, meV/Å",
        {
            "energy_mae_corrupted_meV": "energy, corrupted structures",
            "energy_mae_clean_meV": "energy, clean structures",
            "forces_mae_uncorrupted_meV_per_A": "forces, uncorrupted atoms",
        },
    ),
    (
        "fraction corrupted",
        {
            "corrupted_fraction_structures": "of structures",
            "corrupted_fraction_atoms": "of free atoms",
        },
    ),
)


def plot_learning_curve(
    history: list[dict[str, Any]], zero_forces: dict[str, float], path: Path
) -> None:
    """Training loss per task, and validation errors per split, against the step.

    Args:
        history: records with "step", and "losses" (per task) and/or "splits" (metrics).
        zero_forces: force MAE of predicting zero per split, meV/Å; drawn as dashed lines.
        path: PNG file to write.
    """
    denoising = [record for record in history if "denoising" in record]
    panels_across = 3
    figure, grid = plt.subplots(
        2 if denoising else 1,
        panels_across,
        figsize=(4.3 * panels_across, 7.4 if denoising else 3.8),
        layout="constrained",
        squeeze=False,
    )
    axes = grid[0]
    if denoising:
        for axis, (title, names) in zip(grid[1], _DENOISING_PANELS, strict=True):
            _plot_denoising(axis, denoising, title, names)
    tasks = sorted({name for record in history for name in record.get("losses", {})})
    for colour, task in zip(_COLOURS, tasks, strict=False):
        points = [(r["step"], r["losses"][task]) for r in history if task in r.get("losses", {})]
        axes[0].plot(*zip(*points, strict=True), color=colour, label=task)
    axes[0].set(title="training loss", xlabel="step", yscale="log")
    splits = sorted({name for record in history for name in record.get("splits", {})})
    panels = (
        (axes[1], "forces_mae_meV_per_A", "force MAE, meV/Å"),
        (axes[2], "energy_mae_meV", "energy MAE, meV"),
    )
    for axis, key, title in panels:
        for colour, split in zip(_COLOURS, splits, strict=False):
            points = [
                (r["step"], r["splits"][split][key])
                for r in history
                if key in r.get("splits", {}).get(split, {})
            ]
            if points:
                axis.plot(*zip(*points, strict=True), marker="o", ms=3, color=colour, label=split)
            if key.startswith("forces") and split in zero_forces:
                axis.axhline(zero_forces[split], color=colour, ls="--", lw=0.9)
        axis.set(title=title, xlabel="step", yscale="log")
    if zero_forces:
        axes[1].plot([], [], color="grey", ls="--", lw=0.9, label="zero forces")
    for axis in grid.flat:
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    with atomic_write(path) as building:
        figure.savefig(building, dpi=130)
    plt.close(figure)


def _plot_denoising(
    axis: plt.Axes, history: list[dict[str, Any]], title: str, names: dict[str, str]
) -> None:
    for colour, (name, label) in zip(_COLOURS, names.items(), strict=False):
        points = [(r["step"], r["denoising"][name]) for r in history if name in r["denoising"]]
        if points:
            axis.plot(*zip(*points, strict=True), marker="o", ms=3, color=colour, label=label)
    axis.set(title=title, xlabel="step")


def plot_parity(
    splits: dict[str, SplitPredictions], kind: str, metrics: dict[str, dict[str, float]], path: Path
) -> None:
    """Prediction against target for every split.

    Args:
        splits: from `predict_splits`.
        kind: "energy" (eV per structure) or "forces" (components on free atoms, eV/Å).
        metrics: MAEs for the titles.
        path: PNG file to write.
    """
    figure, axes = plt.subplots(
        1, len(splits), figsize=(4.2 * len(splits), 4.1), layout="constrained", squeeze=False
    )
    unit = "eV" if kind == "energy" else "eV/Å"
    key = "energy_mae_meV" if kind == "energy" else "forces_mae_meV_per_A"
    for axis, (name, split) in zip(axes[0], sorted(splits.items()), strict=True):
        values = np.concatenate(getattr(split, kind))
        target, predicted = values[:, 0].ravel(), values[:, 1].ravel()
        # A few large forces would squeeze all others into a dot.
        low, high = np.percentile(np.concatenate((target, predicted)), (0.2, 99.8))
        margin = 0.05 * (high - low)
        low, high = low - margin, high + margin
        inside = (np.minimum(target, predicted) >= low) & (np.maximum(target, predicted) <= high)
        axis.plot([low, high], [low, high], color="black", lw=0.8)
        axis.scatter(target, predicted, s=5, alpha=0.35, color=_COLOURS[0], edgecolors="none")
        left_out = f"({(~inside).sum()} points outside)"
        axis.set(
            title=f"{name}: MAE {metrics[name][key]:.0f} m{unit} {left_out}",
            xlim=(low, high),
            ylim=(low, high),
            xlabel=f"DFT {kind}, {unit}",
            ylabel=f"predicted {kind}, {unit}",
            aspect="equal",
        )
        axis.grid(alpha=0.3)
    with atomic_write(path) as building:
        figure.savefig(building, dpi=130)
    plt.close(figure)
