"""Pictures: drawn without a display, in the same colours."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from eqv2_plugin.common.files import atomic_write

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

# Numbers as they are, not relative to another one.
plt.rcParams.update({"axes.formatter.useoffset": False, "axes.formatter.limits": (-4, 6)})
# To be read from the back of a room: `plt.rc_context(TALK)`.
TALK = {"font.size": 12, "axes.titlesize": 12, "axes.labelsize": 12, "legend.fontsize": 10}

COLOURS = ("#1b6ca8", "#d1495b", "#3c896d", "#8d6a9f", "#c98b2b", "#555555")


def for_a_talk(picture: Callable[..., bytes], *arguments: Any) -> bytes:
    """A picture in letters that can be read from the back of a room."""
    with plt.rc_context(TALK):
        return picture(*arguments)


def as_png(figure: Figure, dpi: int = 130) -> bytes:
    """The content of a PNG file; the figure is closed."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    plt.close(figure)
    return content.getvalue()


def save_png(figure: Figure, path: Path) -> None:
    """Write a PNG file atomically; the figure is closed."""
    with atomic_write(path) as building:
        building.write_bytes(as_png(figure))


def plain_log_scale(axis: Axis, steps: Sequence[float] = (1.0, 2.0, 5.0)) -> None:
    """A logarithmic axis whose labels are numbers, ``steps`` of each decade: 50, 100, 200."""
    axis.axes.set_yscale("log") if axis.axis_name == "y" else axis.axes.set_xscale("log")
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
