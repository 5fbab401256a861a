"""``eqv2``: the few jobs that ``fairchem -c`` cannot express."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from eqv2_plugin.commands import add_parsers as add_model_parsers
from eqv2_plugin.commands.adsorbml import add_parsers as add_adsorbml_parsers
from eqv2_plugin.commands.submission import add_parsers as add_submission_parsers
from eqv2_plugin.data.commands import add_parsers as add_data_parsers


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="eqv2", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add_model_parsers(commands)
    add_adsorbml_parsers(commands)
    add_submission_parsers(commands)
    data = commands.add_parser("data", help="data sets: convert, fit references, check")
    add_data_parsers(data.add_subparsers(dest="data_command", required=True))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = build_parser().parse_args(arguments)
    try:
        return options.run(options)
    except Exception as error:
        print(f"eqv2: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("eqv2: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
