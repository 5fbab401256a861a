"""``eqv2 data oc20`` and ``eqv2 data convert``: data files into a folder that fairchem reads."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eqv2_plugin.data.conversion.job import Summary


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add both commands."""
    oc20 = commands.add_parser(
        "oc20",
        help="convert the S2EF download of OC20",
        description="Convert one split of the S2EF download of OC20, a folder with pairs of "
        "<n>.extxyz[.xz] and <n>.txt[.xz], into a folder that fairchem reads as ase_db. Energies "
        "become adsorption energies: the frame's total energy minus the reference in the .txt. "
        "A run that was stopped is continued by the same command.",
    )
    oc20.add_argument("--raw", type=Path, required=True, metavar="DIR", help="the download")
    _add_output_arguments(oc20)
    labels = oc20.add_mutually_exclusive_group()
    labels.add_argument(
        "--total-energy", action="store_true", help="keep total energies (no reference taken off)"
    )
    labels.add_argument(
        "--test-data", action="store_true", help="for prediction only: write no labels"
    )
    oc20.set_defaults(run=run_oc20)

    convert = commands.add_parser(
        "convert",
        help="convert LMDB, extxyz, traj, ASE database or VASP files",
        description="Convert data files into a folder that fairchem reads as ase_db: LMDBs of "
        "fairchem 1 (.lmdb), extxyz (.extxyz, .xyz, also .xz), ASE trajectories (.traj) and "
        "databases (.db, .aselmdb), and VASP's vasprun.xml, OUTCAR and ML_AB, of which the free "
        "energy is taken, whose derivative the forces are. Labels and "
        "ids are kept as they are; a frame without sid "
        "gets its file's name. A run that was stopped is continued by the same command. With "
        "--out NAME.extxyz one file is written instead, all digits, tags and fixed atoms kept.",
    )
    convert.add_argument(
        "sources", type=Path, nargs="+", metavar="SRC", help="files, or folders of files"
    )
    _add_output_arguments(convert, "folder, or file NAME.extxyz, to make")
    convert.set_defaults(run=run_convert)


def run_oc20(options: argparse.Namespace) -> int:
    """Convert a download, and print what was done."""
    from eqv2_plugin.data.conversion.job import convert
    from eqv2_plugin.data.conversion.raw_oc20 import Energy, find_pairs

    energy: Energy = "referenced"
    if options.total_energy or options.test_data:
        energy = "total" if options.total_energy else "none"
    pairs = find_pairs(options.raw, energy)
    _report(convert(pairs, options.out, {"energy": energy}, options.workers), options.out)
    return 0


def run_convert(options: argparse.Namespace) -> int:
    """Convert files, and print what was done."""
    from eqv2_plugin.data.conversion.extxyz_writing import SUFFIXES, write_extxyz
    from eqv2_plugin.data.conversion.job import convert
    from eqv2_plugin.data.conversion.sources import find_sources

    sources = find_sources(options.sources)
    if options.out.suffix in SUFFIXES:
        notes: Counter[str] = Counter()
        frames = write_extxyz(sources, options.out, notes)
        print(f"{options.out}: {frames:,} frames")
        print_notes(notes)
        return 0
    _report(convert(sources, options.out, {}, options.workers), options.out)
    return 0


def _add_output_arguments(parser: argparse.ArgumentParser, out: str = "folder to make") -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=out)
    parser.add_argument(
        "--workers", type=_positive, default=1, metavar="N", help="processes (default 1)"
    )


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of processes")
    return int(text)


def _report(summary: Summary, out: Path) -> None:
    before = f" ({summary.finished_before} were there)" if summary.finished_before else ""
    print(f"{out}: {summary.frames:,} frames in {summary.shards} database(s){before}")
    print(f"labels: {', '.join(summary.labels) or 'none; for prediction only'}")
    print_notes(summary.notes)


def print_notes(notes: Mapping[str, int]) -> None:
    """What the user should know, and how often it occurred."""
    for note, times in sorted(notes.items()):
        print(f"note: {times:,} {note}")
