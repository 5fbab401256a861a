"""Pictures of a training run."""

from __future__ import annotations

from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from eqv2_plugin.common.figures import COLOURS, TALK, plain_log_scale, save_png
from eqv2_plugin.training.breakdowns import EDGES, magnitude
from eqv2_plugin.training.evaluation import SplitPredictions

_ELEMENTS = 12  # that have bars
_STYLES = ("-", "--", ":")  # of lines, when colours run out

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


@plt.rc_context(TALK)
def plot_learning_curve(
    history: list[dict[str, Any]],
    losses_of_steps: list[dict[str, Any]],
    zero_forces: dict[str, float],
    path: Path,
) -> None:
    """Training loss per task, and validation errors per split, against the step.

    Args:
        history: records with "step", and "losses" (per task) and/or "splits" (metrics).
        losses_of_steps: records with "step" and "losses", more of them; empty where an earlier
            version began the run.
        zero_forces: force MAE of predicting zero per split, meV/Å; drawn as dashed lines.
    """
    denoising = any("denoising" in record for record in history)
    figure, grid = plt.subplots(
        2 if denoising else 1,
        3,
        figsize=(14.4, 8.4 if denoising else 4.3),
        layout="constrained",
        squeeze=False,
    )
    losses, forces, energy = grid[0]
    points = losses_of_steps or history
    tasks = sorted({name for record in points for name in record.get("losses", {})})
    lines = {task: ("losses", task) for task in tasks}
    _draw(
        losses,
        "training loss, running mean",
        points,
        lines,
        marker="." if len(points) < 3 else "",
        # Of steps without frames of a data set.
        without_zeros=True,
    )
    splits = sorted({name for record in history for name in record.get("splits", {})})
    for axis, key, title in (
        (forces, "forces_mae_meV_per_A", "force MAE, meV/Å"),
        (energy, "energy_mae_meV", "energy MAE, meV"),
    ):
        lines = {split: ("splits", split, key) for split in splits}
        _draw(axis, title, history, lines, marker="o")
    for colour, split in zip(cycle(COLOURS), splits, strict=False):
        if split in zero_forces:
            forces.axhline(zero_forces[split], color=colour, ls="--", lw=0.9)
    if zero_forces:
        forces.plot([], [], color="grey", ls="--", lw=0.9, label="zero forces")
    for axis in grid[0]:
        plain_log_scale(axis.yaxis)
    for axis, (title, names) in zip(grid[1:].flat, _DENOISING_PANELS.items(), strict=False):
        lines = {label: ("denoising", name) for label, name in names.items()}
        _draw(axis, title, history, lines, marker="o")
    for axis in grid.flat:
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
        axis.grid(alpha=0.3)
    save_png(figure, path)


def _draw(
    axis: plt.Axes,
    title: str,
    history: list[dict[str, Any]],
    lines: dict[str, tuple[str, ...]],
    marker: str = "",
    without_zeros: bool = False,
) -> None:
    """A line for each label: the values at its keys, of the records that have them.

    Args:
        without_zeros: leave them out, which a logarithmic axis cannot show.
    """
    for number, (label, keys) in enumerate(lines.items()):
        colour, style = COLOURS[number % len(COLOURS)], _STYLES[number // len(COLOURS) % 3]
        points = []
        for record in history:
            value: Any = record
            for key in keys:
                value = value.get(key, {})
            if value != {} and not (without_zeros and value == 0):
                points.append((record["step"], value))
        if points:
            x, y = zip(*points, strict=True)
            axis.plot(x, y, color=colour, ls=style, label=label, marker=marker, ms=4)
    axis.set(title=title, xlabel="step")
    axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))


@plt.rc_context(TALK)
def plot_parity(
    splits: dict[str, SplitPredictions], kind: str, metrics: dict[str, dict[str, float]], path: Path
) -> None:
    """Predicted "energy" or "forces" (components on free atoms) against target.

    Energies per structure, and below per atom. The titles name the errors in ``metrics``.
    """
    rows = ["energy", "energy per atom"] if kind == "energy" else ["forces"]
    size = 4.6 * len(splits), 4.9 * len(rows)
    figure, axes = plt.subplots(
        len(rows), len(splits), figsize=size, layout="constrained", squeeze=False
    )
    for what, line in zip(rows, axes, strict=True):
        for axis, (name, split) in zip(line, sorted(splits.items()), strict=True):
            values = np.concatenate(getattr(split, kind)).astype(float)
            if what == "energy per atom":
                values = values / np.array(split.natoms)[:, None]
            key, unit, of_errors = _PARITY[what]
            mae, rmse = (metrics[name][key.format(error)] for error in ("mae", "rmse"))
            _parity(axis, values[:, 0].ravel(), values[:, 1].ravel())
            axis.set(
                title=f"{name}: MAE {mae:.3g}, RMSE {rmse:.3g} {of_errors}",
                xlabel=f"DFT {what}, {unit}",
                ylabel=f"predicted, {unit}",
            )
    save_png(figure, path)


# Key of the metrics, unit, and unit of errors, of what a row of panels shows.
_PARITY = {
    "energy": ("energy_{}_meV", "eV", "meV"),
    "energy per atom": ("energy_{}_meV_per_atom", "eV", "meV/atom"),
    "forces": ("forces_{}_meV_per_A", "eV/Å", "meV/Å"),
}


def _parity(axis: plt.Axes, target: np.ndarray, predicted: np.ndarray) -> None:
    # A few large forces would squeeze all others into a dot.
    low, high = np.percentile(np.concatenate((target, predicted)), (0.2, 99.8))
    margin = 0.05 * (high - low) or 0.5
    low, high = low - margin, high + margin
    outside = int(
        ((np.minimum(target, predicted) < low) | (np.maximum(target, predicted) > high)).sum()
    )
    axis.plot([low, high], [low, high], color="black", lw=0.8)
    size = 18 if len(target) < 500 else 7
    axis.scatter(target, predicted, s=size, alpha=0.35, color=COLOURS[0], edgecolors="none")
    if outside:
        text = f"{outside:,} of {len(target):,} points outside"
        axis.text(0.03, 0.97, text, va="top", transform=axis.transAxes, fontsize=10, color="grey")
    axis.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_locator(MaxNLocator(4))
    axis.grid(alpha=0.3)


@plt.rc_context(TALK)
def plot_force_errors(errors: dict[str, dict[str, list[dict[str, Any]]]], path: Path) -> None:
    """MAE of force components per split, by element and by magnitude: see `force_errors`."""
    figure, axes = plt.subplots(1, 2, figsize=(13.0, 4.6), layout="constrained")
    panels = (("by_element", "element"), ("by_magnitude", "force_eV_per_A"))
    for axis, (kind, key) in zip(axes, panels, strict=True):
        shown = _labels(errors, kind, key)
        for index, (colour, split) in enumerate(zip(cycle(COLOURS), sorted(errors), strict=False)):
            rows = {row[key]: row["mae_meV_per_A"] for row in errors[split].get(kind, [])}
            places = [i for i, label in enumerate(shown) if label in rows]
            width = 0.8 / len(errors)
            x = np.array(places) + (index + 0.5) * width - 0.4
            axis.bar(x, [rows[shown[i]] for i in places], width, color=colour, label=split)
        axis.set_xticks(range(len(shown)), shown)
        axis.set(ylabel="force MAE, meV/Å")
        axis.grid(alpha=0.3, axis="y")
    axes[0].set(title="by element, the most frequent ones", xlabel="element")
    axes[1].set(title="by size of the force", xlabel="DFT force on the atom, eV/Å")
    axes[0].legend()
    save_png(figure, path)


def _labels(errors: dict[str, dict[str, list[dict[str, Any]]]], kind: str, key: str) -> list[str]:
    """Of the bars: elements by their atoms in all splits, ranges in their order."""
    counts: Counter[str] = Counter()
    for split in errors.values():
        for row in split.get(kind, []):
            counts[row[key]] += row["atoms"]
    if kind == "by_element":
        return [label for label, _ in counts.most_common(_ELEMENTS)]
    return [label for label in map(magnitude, range(len(EDGES))) if label in counts]
