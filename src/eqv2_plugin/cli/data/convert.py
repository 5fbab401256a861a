"""``eqv2 data convert``: other data files into a folder that fairchem reads."""

from __future__ import annotations

import argparse
from pathlib import Path

from eqv2_plugin.cli.data.output import add_output_arguments, print_summary


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "convert",
        help="convert LMDB, extxyz, traj or ASE database files",
        description="Convert data files into a folder that fairchem reads as ase_db: LMDBs of "
        "fairchem 1 (.lmdb), extxyz (.extxyz, .xyz, also .xz), ASE trajectories (.traj) and "
        "databases (.db, .aselmdb). Labels and ids are kept as they are; a frame without sid "
        "gets its file's name. A run that was stopped is continued by the same command.",
    )
    parser.add_argument(
        "sources", type=Path, nargs="+", metavar="SRC", help="files, or folders of files"
    )
    add_output_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Convert, and print what was done."""
    from eqv2_plugin.data.conversion.job import convert
    from eqv2_plugin.data.conversion.sources import find_sources

    summary = convert(find_sources(options.sources), options.out, {}, options.workers)
    print_summary(summary, options.out)
    return 0
