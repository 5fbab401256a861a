"""Histograms of data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from eqv2_plugin.common.figures import COLOURS, save_png
from eqv2_plugin.data.inspection.forces import BINS


def plot_values(values: dict[str, np.ndarray], label: str, path: Path) -> None:
    """One outlined histogram per data set, normalised to its number of values, as a PNG file."""
    shown = {name: v for name, v in values.items() if len(v)}
    together = np.concatenate(list(shown.values()))
    low, high = np.percentile(together, (0.1, 99.9))
    if np.issubdtype(together.dtype, np.integer):
        # Bins that hold equally many whole numbers, or the picture shows a comb.
        width = max(1, round((high - low) / 60))
        bins = np.arange(np.floor(low), np.ceil(high) + width + 1, width) - 0.5
    else:
        low, high = (low - 0.5, high + 0.5) if low == high else (low, high)
        bins = np.linspace(low, high, 61)
    shares = {name: (np.histogram(v, bins)[0], len(v)) for name, v in shown.items()}
    _plot(shares, bins, "linear", label, "share of frames", path)


def plot_force_norms(histograms: dict[str, np.ndarray], path: Path) -> None:
    """|F| of free atoms on a logarithmic axis, from counts between `forces.BINS` (and beyond)."""
    filled = {name: counts for name, counts in histograms.items() if counts.sum()}
    used = np.flatnonzero(sum(counts[1:-1] for counts in filled.values()))
    first, last = (used[0], used[-1]) if len(used) else (0, len(BINS) - 2)
    shares = {name: (c[first + 1 : last + 2], c.sum()) for name, c in filled.items()}
    bins = BINS[first : last + 2]
    _plot(shares, bins, "log", "|F| of free atoms, eV/Å", "share of atoms", path)


def _plot(
    shares: dict[str, tuple[np.ndarray, int]],
    bins: np.ndarray,
    scale: str,
    label: str,
    counted: str,
    path: Path,
) -> None:
    """Outlines of counts in bins over totals, {name: (counts, total)}."""
    figure, axis = plt.subplots(figsize=(6.0, 3.8), layout="constrained")
    for index, (name, (counts, total)) in enumerate(shares.items()):
        outside = int(total - counts.sum())
        note = f" ({outside} outside)" if outside else ""
        colour = COLOURS[index % len(COLOURS)]
        style = "-" if index < len(COLOURS) else "--"
        axis.stairs(counts / total, bins, color=colour, ls=style, label=f"{name}{note}")
        axis.stairs(counts / total, bins, color=colour, fill=True, alpha=0.15)
    axis.set(xlabel=label, ylabel=counted, ylim=(0, None), xscale=scale)
    axis.grid(alpha=0.3)
    # Above the axes, where a long name hides nothing.
    figure.legend(fontsize=8, loc="outside upper left", ncols=1, frameon=False)
    save_png(figure, path)
