"""The commands of ``eqv2`` on models: arguments here, work elsewhere.

Each module has ``add_parsers(commands)``, and imports what takes long only when it is run.
"""

from __future__ import annotations

import argparse

from eqv2_plugin.commands import convert, doctor, export, info

MODULES = (info, convert, export, doctor)


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add all commands on models."""
    for module in MODULES:
        module.add_parsers(commands)
