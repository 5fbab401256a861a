"""``--unsafe``: the one way around the checks of a model file, for every command."""

from __future__ import annotations

import argparse


def add_unsafe(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--unsafe",
        action="store_true",
        help="read the file with full unpickling, which lets it import any module and run any "
        "code: only for files that you trust as you would trust a program",
    )
