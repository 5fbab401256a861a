"""Pictures of relaxations: contents of PNG files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from ase.visualize.plot import plot_atoms
from matplotlib import pyplot as plt

from eqv2_plugin.common.figures import COLOURS, as_png, for_a_talk, plain_log_scale
from eqv2_plugin.inference.relaxation import Relaxed

# ASE's rotation of the view: from above, and from the side.
_VIEWS = {"top": "0x,0y,0z", "side": "-90x,0y,0z"}


def drawn(picture: Callable[..., bytes], *arguments: Any) -> list[bytes]:
    """A picture, or none where numbers are beyond what can be drawn (a lost atom, 1e30 Å away).

    A report that comes after hours of work must not be lost for a picture.
    """
    try:
        return [for_a_talk(picture, *arguments)]
    except (ValueError, ArithmeticError):
        plt.close("all")
        return []


def views(initial: Atoms, relaxed: Atoms) -> bytes:
    """Top and side of the same atoms before and after, periodic images moved into the cell."""
    figure, axes = plt.subplots(1, 4, figsize=(11.5, 3.6), layout="constrained")
    panels = [(w, n, a) for n in _VIEWS for w, a in (("initial", initial), ("relaxed", relaxed))]
    for axis, (when, name, atoms) in zip(axes, panels, strict=True):
        shown = atoms.copy()
        # Constraints would be drawn as crosses, the same in every picture.
        shown.set_constraint()
        if shown.cell.rank == 3:
            # The same image of an atom in both: it moves less than half a cell.
            shift = np.floor(initial.cell.scaled_positions(initial.positions) + 1e-6)
            shown.positions -= (shift * initial.pbc) @ np.array(initial.cell)
        plot_atoms(shown, axis, rotation=_VIEWS[name], radii=0.8, show_unit_cell=0)
        axis.set_title(f"{when}, {name}")
        axis.set_axis_off()
    for pair in (axes[:2], axes[2:]):
        # The same part of space in both, so that atoms can be compared.
        x = sorted(end for axis in pair for end in axis.get_xlim())
        y = sorted(end for axis in pair for end in axis.get_ylim())
        for axis in pair:
            axis.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    return as_png(figure, dpi=90)


def curves(relaxed: Relaxed, fmax: float | None = None) -> bytes:
    """Energy and largest force against the step; ``fmax`` (eV/Å) is drawn as a line."""
    figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
    steps = np.arange(len(relaxed.energies))
    marker = "o" if len(steps) < 3 else None
    axes[0].plot(steps, relaxed.energies, color=COLOURS[0], lw=1.4, marker=marker)
    axes[0].set(title="energy", xlabel="step", ylabel="eV")
    axes[0].ticklabel_format(axis="y", useOffset=False)
    axes[1].plot(steps, relaxed.fmax, color=COLOURS[1], lw=1.4, marker=marker)
    axes[1].set(title="largest force on an atom", xlabel="step", ylabel="eV/Å")
    if len(steps) and (relaxed.fmax > 0).all():
        plain_log_scale(axes[1].yaxis)
    if fmax is not None:
        axes[1].axhline(fmax, color="black", lw=0.8, ls="--", label=f"fmax {fmax:g}")
        axes[1].legend()
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.xaxis.get_major_locator().set_params(integer=True)
    return as_png(figure, dpi=90)


def overview(relaxed: list[tuple[int, float]], errors: list[tuple[float, float]]) -> bytes:
    """All relaxations at a glance.

    Args:
        relaxed: (steps, last largest force in eV/Å) of each.
        errors: (DFT energy, predicted energy) in eV where DFT's is known.
    """
    panels = 3 if errors else 2
    figure, axes = plt.subplots(1, panels, figsize=(4.4 * panels, 3.8), layout="constrained")
    steps, forces = zip(*relaxed, strict=True)
    axes[0].hist(steps, bins=np.linspace(0, max(steps) + 1, 31).tolist(), color=COLOURS[0])
    axes[0].set(title="steps", xlabel="steps", ylabel="structures")
    positive = np.clip(forces, 1e-4, None)
    low, high = np.floor(np.log10(positive.min())), np.ceil(np.log10(positive.max() * 1.01))
    axes[1].hist(positive, bins=np.logspace(low, high, 31).tolist(), color=COLOURS[1])
    axes[1].set(title="largest force at the end", xlabel="eV/Å")
    plain_log_scale(axes[1].xaxis, (1.0,))
    if errors:
        dft, predicted = zip(*errors, strict=True)
        axes[2].scatter(dft, predicted, s=10, alpha=0.6, color=COLOURS[0], edgecolors="none")
        ends = [min(*dft, *predicted), max(*dft, *predicted)]
        axes[2].plot(ends, ends, color="black", lw=0.8)
        axes[2].set(title="relaxed energy", xlabel="DFT, eV", ylabel="model, eV")
    for axis in axes[:2]:
        axis.yaxis.get_major_locator().set_params(integer=True)
    for axis in axes:
        axis.grid(alpha=0.3)
    return as_png(figure, dpi=90)
