"""What the converting commands have in common: where to write, and what is printed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eqv2_plugin.data.conversion.job import Summary


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--out`` and ``--workers``."""
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument(
        "--workers", type=_positive, default=1, metavar="N", help="processes (default 1)"
    )


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes")
    return int(text)


def print_summary(summary: Summary, out: Path) -> None:
    """Print what is in the folder, and what the user should know of it."""
    before = f" ({summary.finished_before} were there)" if summary.finished_before else ""
    print(f"{out}: {summary.frames:,} frames in {summary.shards} database(s){before}")
    print(f"labels: {', '.join(summary.labels) or 'none; for prediction only'}")
    for note, times in sorted(summary.notes.items()):
        print(f"note: {times:,} {note}")
