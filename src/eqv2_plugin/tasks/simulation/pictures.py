"""Pictures of a simulation: contents of PNG files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from eqv2_plugin.common.figures import COLOURS, as_png
from eqv2_plugin.tasks.simulation.analysis import Reference, Replica
from eqv2_plugin.tasks.simulation.metrics import BROKEN, EDGES


def distances(replicas: Sequence[Replica], reference: Reference) -> bytes:
    """h(r) of every replica against the reference, and the difference below."""
    figure, axes = plt.subplots(
        2, 1, figsize=(9.6, 5.6), sharex=True, height_ratios=(3, 1), layout="constrained"
    )
    middle = (EDGES[1:] + EDGES[:-1]) / 2
    axes[0].fill_between(middle, reference.density, color="black", alpha=0.2, lw=0, label="DFT")
    for replica in replicas:
        colour = _colour(replica)
        axes[0].plot(middle, replica.density, color=colour, lw=0.9, alpha=0.8)
        axes[1].plot(middle, replica.density - reference.density, color=colour, lw=0.8, alpha=0.8)
    axes[0].plot([], [], color=COLOURS[0], label="replicas")
    axes[0].legend()
    axes[0].set(title="distances between atoms", ylabel="h(r), 1/Å")
    axes[1].set(xlabel="r, Å", ylabel="difference")
    seen = np.flatnonzero(np.array([reference.density, *(r.density for r in replicas)]).any(0))
    axes[1].set_xlim(0.5, EDGES[seen[-1] + 1] + 0.3)
    return _finished(figure, axes)


def along(replicas: Sequence[Replica], temperature: float) -> bytes:
    """Temperature, bond deviation and conserved energy of every replica against time.

    Args:
        replicas: what is drawn.
        temperature: K, wanted.
    """
    figure, axes = plt.subplots(3, 1, figsize=(9.6, 8.4), sharex=True, layout="constrained")
    for replica in replicas:
        style = {"color": _colour(replica), "lw": 0.9, "alpha": 0.8}
        axes[0].plot(replica.times, replica.temperature, label=f"{replica.number}", **style)
        axes[1].plot(replica.times, replica.deviation, **style)
        axes[2].plot(replica.times, replica.conserved, **style)
        if replica.end is not None:
            for axis, values in zip(
                axes, (replica.temperature, replica.deviation, replica.conserved), strict=True
            ):
                axis.plot(replica.times[-1], values[-1], "x", color=style["color"], ms=8, mew=2)
    axes[0].axhline(temperature, color="black", lw=0.8, ls="--")
    if len(replicas) <= len(COLOURS):
        axes[0].legend(title="replica", loc="upper right", ncols=3)
    axes[0].set(title="temperature (crosses: ended early)", ylabel="K")
    axes[1].axhline(BROKEN, color="black", lw=0.8, ls="--")
    # Parts of a broken molecule fly apart, and would hide the others.
    top = max(BROKEN, *(float(replica.deviation.max()) for replica in replicas))
    axes[1].set_ylim(0, min(1.1 * top, 4 * BROKEN))
    axes[1].set(title="largest deviation of a bond; beyond the line it is broken", ylabel="Å")
    axes[2].set(title="conserved energy", ylabel="meV per atom", xlabel="ps")
    return _finished(figure, axes)


def _colour(replica: Replica) -> str:
    return COLOURS[replica.number % len(COLOURS)]


def _finished(figure: plt.Figure, axes: Sequence[Axes]) -> bytes:
    for axis in axes:
        axis.grid(alpha=0.3)
    return as_png(figure, dpi=90)
