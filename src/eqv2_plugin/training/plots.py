"""Pictures of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from eqv2_plugin.common.figures import COLOURS, save_png
from eqv2_plugin.training.evaluation import SplitPredictions

# Panels of a DeNS run: title, and the monitor's figures by their labels.
_DENOISING_PANELS = {
    "denoising: noise": {
        "MAE / sigma": "noise_mae_sigma",
        "RMSE / sigma": "noise_rmse_sigma",
        "cosine": "noise_cosine",
        "validation MAE / sigma": "noise_mae_encoded_sigma",
        "the same, forces not encoded": "noise_mae_unencoded_sigma",
    },
    "training batches: errors, meV, meV/Å": {
        "energy, corrupted structures": "energy_mae_corrupted_meV",
        "energy, clean structures": "energy_mae_clean_meV",
        "forces, uncorrupted atoms": "forces_mae_uncorrupted_meV_per_A",
    },
    "fraction corrupted": {
        "of structures": "corrupted_fraction_structures",
        "of free atoms": "corrupted_fraction_atoms",
    },
}


def plot_learning_curve(
    history: list[dict[str, Any]], zero_forces: dict[str, float], path: Path
) -> None:
    """Training loss per task, and validation errors per split, against the step.

    Args:
        history: records with "step", and "losses" (per task) and/or "splits" (metrics).
        zero_forces: force MAE of predicting zero per split, meV/Å; drawn as dashed lines.
    """
    denoising = any("denoising" in record for record in history)
    figure, grid = plt.subplots(
        2 if denoising else 1,
        3,
        figsize=(12.9, 7.4 if denoising else 3.8),
        layout="constrained",
        squeeze=False,
    )
    losses, forces, energy = grid[0]
    tasks = sorted({name for record in history for name in record.get("losses", {})})
    _draw(losses, "training loss", history, {task: ("losses", task) for task in tasks})
    splits = sorted({name for record in history for name in record.get("splits", {})})
    for axis, key, title in (
        (forces, "forces_mae_meV_per_A", "force MAE, meV/Å"),
        (energy, "energy_mae_meV", "energy MAE, meV"),
    ):
        lines = {split: ("splits", split, key) for split in splits}
        _draw(axis, title, history, lines, marker="o")
    for colour, split in zip(COLOURS, splits, strict=False):
        if split in zero_forces:
            forces.axhline(zero_forces[split], color=colour, ls="--", lw=0.9)
    if zero_forces:
        forces.plot([], [], color="grey", ls="--", lw=0.9, label="zero forces")
    for axis in grid[0]:
        axis.set_yscale("log")
    for axis, (title, names) in zip(grid[1:].flat, _DENOISING_PANELS.items(), strict=False):
        lines = {label: ("denoising", name) for label, name in names.items()}
        _draw(axis, title, history, lines, marker="o")
    for axis in grid.flat:
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    save_png(figure, path)


def _draw(
    axis: plt.Axes,
    title: str,
    history: list[dict[str, Any]],
    lines: dict[str, tuple[str, ...]],
    marker: str = "",
) -> None:
    """A line for each label: the values at its keys, of the records that have them."""
    for colour, (label, keys) in zip(COLOURS, lines.items(), strict=False):
        points = []
        for record in history:
            value: Any = record
            for key in keys:
                value = value.get(key, {})
            if value != {}:
                points.append((record["step"], value))
        if points:
            axis.plot(*zip(*points, strict=True), color=colour, label=label, marker=marker, ms=3)
    axis.set(title=title, xlabel="step")


def plot_parity(
    splits: dict[str, SplitPredictions], kind: str, metrics: dict[str, dict[str, float]], path: Path
) -> None:
    """Predicted "energy" (per structure) or "forces" (components on free atoms) against target.

    The titles of the splits' panels name the MAEs in ``metrics``.
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
        axis.scatter(target, predicted, s=5, alpha=0.35, color=COLOURS[0], edgecolors="none")
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
    save_png(figure, path)
