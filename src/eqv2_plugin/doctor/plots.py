"""The measurements behind the table as one picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np

from eqv2_plugin.common.files import whole_file
from eqv2_plugin.doctor.examine import Examination

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_COLOURS = ("#1b6ca8", "#d1495b")


def plot_examination(found: Examination, title: str, path: Path) -> None:
    """Rotation errors, Jacobian, NVE energy and time against batch size.

    Args:
        found: what was measured; a panel without measurement says so.
        title: of the picture.
        path: PNG file to write.
    """
    figure, axes = plt.subplots(2, 2, figsize=(9.6, 7.4), layout="constrained")
    _rotations(axes[0, 0], found)
    _jacobian(axes[0, 1], found)
    _nve(axes[1, 0], found)
    _speed(axes[1, 1], found)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    figure.suptitle(title, fontsize=10)
    with whole_file(path) as building:
        figure.savefig(building, dpi=130)
    plt.close(figure)


def _rotations(axis: plt.Axes, found: Examination) -> None:
    axis.set(
        title="change of forces under rotation",
        xlabel="largest change / largest force",
        ylabel="rotations",
    )
    values = {k: v[np.isfinite(v) & (v > 0)] for k, v in found.rotations.items()}
    values = {name: v for name, v in values.items() if len(v)}
    if not values:
        return _missing(axis)
    together = np.concatenate(list(values.values()))
    low, high = np.floor(np.log10(together.min())), np.ceil(np.log10(together.max()))
    bins = np.logspace(low, max(high, low + 1), 41)
    for colour, (name, v) in zip(_COLOURS, sorted(values.items()), strict=False):
        # Both outlines stay visible where the two lie upon each other.
        style = "-" if name == "float32" else "--"
        axis.hist(v, bins, color=colour, alpha=0.2)
        axis.hist(v, bins, color=colour, histtype="step", lw=1.5, ls=style, label=name)
    axis.set_xscale("log")
    axis.legend(fontsize=8)


def _jacobian(axis: plt.Axes, found: Examination) -> None:
    axis.set(title="force Jacobian", xlabel="J[i, k], eV/Å²", ylabel="J[k, i], eV/Å²")
    if found.differences is None:
        return _missing(axis)
    jacobian = found.differences.jacobian
    upper, lower = jacobian[np.triu_indices_from(jacobian, 1)], jacobian.T
    lower = lower[np.triu_indices_from(jacobian, 1)]
    reach = 1.05 * max(np.abs(upper).max(), np.abs(lower).max(), 1e-12)
    axis.plot([-reach, reach], [-reach, reach], color="black", lw=0.8, label="gradient field")
    axis.scatter(upper, lower, s=10, alpha=0.5, color=_COLOURS[0], edgecolors="none")
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
    axis.legend(fontsize=8)


def _nve(axis: plt.Axes, found: Examination) -> None:
    axis.set(title="energy in NVE run", xlabel="time, ps", ylabel="total energy, meV per atom")
    if found.run is None:
        return _missing(axis)
    axis.plot(found.run.times, found.run.energies, color=_COLOURS[0], lw=1.2)


def _speed(axis: plt.Axes, found: Examination) -> None:
    axis.set(title="time", xlabel="structures in the batch", ylabel="seconds per structure")
    if found.timings is None:
        return _missing(axis)
    axis.plot(found.timings.sizes, found.timings.seconds, color=_COLOURS[0], marker="o", ms=4)
    axis.set_xscale("log", base=2)
    axis.set_xticks(found.timings.sizes, [str(size) for size in found.timings.sizes])
    axis.set_ylim(0, None)


def _missing(axis: plt.Axes) -> None:
    axis.text(0.5, 0.5, "not run", ha="center", transform=axis.transAxes, color="grey")
