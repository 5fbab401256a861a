"""Success rate against the number of single points."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import MaxNLocator

from eqv2_plugin.tasks.adsorbml.metrics import Row

_BLUE, _RED = "#1b6ca8", "#d1495b"


def success_plot(rows: Sequence[Row], systems: int) -> bytes:
    """PNG: share of systems that succeeded, and that are much better, for each k.

    Args:
        rows: of a score.
        systems: number of systems that were scored.
    """
    ks = [row.k for row in rows]
    figure, axis = plt.subplots(figsize=(5.4, 3.6), layout="constrained")
    series = (
        ([100 * row.success_rate for row in rows], _BLUE, 9, "within 0.1 eV or below"),
        ([100 * row.much_better_rate for row in rows], _RED, 5, "more than 0.1 eV below"),
    )
    for values, colour, size, label in series:
        # The larger markers show even where both rates are the same.
        axis.plot(ks, values, color=colour, marker="o", ms=size, label=label, clip_on=False)
    for k, value in zip(ks, series[0][0], strict=True):
        axis.annotate(
            f"{value:.1f}", (k, value), (0, 6), textcoords="offset points", ha="center", fontsize=8
        )
    axis.set(
        title=f"AdsorbML, {systems} system{'s' if systems != 1 else ''}",
        xlabel="k, DFT single points per system",
        ylabel="success rate, %",
        ylim=(0, 108),
    )
    axis.set_yticks(range(0, 101, 20))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.legend(loc="best", fontsize=8)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    plt.close(figure)
    return content.getvalue()
