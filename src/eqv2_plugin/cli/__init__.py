"""``eqv2``: the few jobs that ``fairchem -c`` cannot express.

Each module has ``add_parsers(commands)``, and imports what takes long only when it is run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from eqv2_plugin.cli import adsorbml, convert, data, doctor, export, info, submission


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="eqv2", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for module in (info, convert, export, doctor, adsorbml, submission, data):
        module.add_parsers(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = build_parser().parse_args(arguments)
    try:
        from eqv2_plugin import registered  # noqa: F401  # takes seconds, which the help need not

        return options.run(options)
    except Exception as error:
        print(f"eqv2: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("eqv2: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
