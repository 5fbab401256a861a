"""The commands below ``eqv2 data``: arguments here, work elsewhere.

Each module has ``add_parsers(commands)``, and imports what takes long only when it is run.
"""

from __future__ import annotations

import argparse

from eqv2_plugin.cli.data import check, convert, references, split


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add ``data`` with its commands."""
    parser = commands.add_parser("data", help="data sets: convert, split, fit references, check")
    commands = parser.add_subparsers(dest="data_command", required=True)
    for module in (convert, split, references, check):
        module.add_parsers(commands)
