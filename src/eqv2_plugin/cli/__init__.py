"""``eqv2``: the few jobs that ``fairchem -c`` cannot express.

Each module has ``add_parsers(commands)``, and imports what takes long only when it is run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from eqv2_plugin.cli import (
    adsorbml,
    config,
    convert,
    data,
    doctor,
    export,
    info,
    predict,
    submission,
)
from eqv2_plugin.version import __version__

GROUPS = {
    "checkpoints": (info, convert, export, doctor),
    "data sets": (data,),
    "results": (predict, adsorbml, submission),
    "recipes of fairchem -c": (config,),
}


class _Noted:
    """Subparsers, whose names and help are noted for the overview."""

    def __init__(self, commands: argparse._SubParsersAction) -> None:
        self._commands = commands
        self.lines: list[str] = []

    def add_parser(self, name: str, help: str, **options: Any) -> argparse.ArgumentParser:
        self.lines.append(f"  {name:12}{help}")
        return self._commands.add_parser(name, **options)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="eqv2",
        usage="eqv2 [-h] [--version] COMMAND ...",
        description="The few jobs of eqv2-plugin that `fairchem -c` cannot express.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"eqv2-plugin {__version__}")
    commands = parser.add_subparsers(
        prog="eqv2", dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS
    )
    overview = []
    for title, modules in GROUPS.items():
        noted = _Noted(commands)
        for module in modules:
            module.add_parsers(noted)
        overview += ["", f"{title}:", *noted.lines]
    parser.epilog = "\n".join([*overview[1:], "", "eqv2 COMMAND --help says more of each."])
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = build_parser().parse_args(arguments)
    try:
        if getattr(options, "registers", True):
            from eqv2_plugin import registered  # noqa: F401  # takes seconds; the help need not

        return options.run(options)
    except Exception as error:
        print(f"eqv2: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("eqv2: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
