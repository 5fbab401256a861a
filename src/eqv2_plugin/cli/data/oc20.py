"""``eqv2 data oc20``: the S2EF download of OC20 into a folder that fairchem reads."""

from __future__ import annotations

import argparse
from pathlib import Path

from eqv2_plugin.cli.data.output import add_output_arguments, print_summary


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "oc20",
        help="convert the S2EF download of OC20",
        description="Convert one split of the S2EF download of OC20, a folder with pairs of "
        "<n>.extxyz[.xz] and <n>.txt[.xz], into a folder that fairchem reads as ase_db. Energies "
        "become adsorption energies: the frame's total energy minus the reference in the .txt. "
        "A run that was stopped is continued by the same command.",
    )
    parser.add_argument("--raw", type=Path, required=True, metavar="DIR", help="the download")
    add_output_arguments(parser)
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument(
        "--total-energy", action="store_true", help="keep total energies (no reference taken off)"
    )
    labels.add_argument(
        "--test-data", action="store_true", help="for prediction only: write no labels"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Convert, and print what was done."""
    from eqv2_plugin.data.conversion.job import convert
    from eqv2_plugin.data.conversion.raw_oc20 import Energy, find_pairs

    energy: Energy = "referenced"
    if options.total_energy or options.test_data:
        energy = "total" if options.total_energy else "none"
    pairs = find_pairs(options.raw, energy)
    summary = convert(pairs, options.out, {"energy": energy}, options.workers)
    print_summary(summary, options.out)
    return 0
