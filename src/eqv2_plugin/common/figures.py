"""Pictures: drawn without a display, in the same colours."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from eqv2_plugin.common.files import atomic_write

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = ("#1b6ca8", "#d1495b", "#3c896d", "#8d6a9f", "#c98b2b", "#555555")


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
