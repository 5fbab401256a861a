"""``eqv2 data split``: files of frames into train, validation and test, by whole groups."""

from __future__ import annotations

import argparse
from pathlib import Path

from eqv2_plugin.cli.data.convert import print_notes


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser of ``eqv2 data``."""
    parser = commands.add_parser(
        "split",
        help="part frames into train, val and test by whole groups",
        description="Write FOLDER/train.extxyz and val.extxyz (and test.extxyz) of the frames of "
        "any files that eqv2 data convert reads. Groups stay whole: what --group-key names, else "
        "systems (sid), files or compositions, the first kind of which there are five or more, "
        "else ten blocks of consecutive frames. Frames are stored as they were, all digits kept.",
    )
    parser.add_argument("sources", type=Path, nargs="+", metavar="FILE", help="files or folders")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder to make")
    parser.add_argument(
        "--val", type=float, default=0.1, metavar="X", help="part that validates (default 0.1)"
    )
    parser.add_argument(
        "--test", type=float, default=0.0, metavar="X", help="part held out besides (default 0)"
    )
    parser.add_argument(
        "--group-key", metavar="NAME", help="entry of atoms.info that names a frame's group"
    )
    parser.add_argument("--seed", type=int, default=0, help="another split (default 0)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the parts, and print what they hold."""
    from eqv2_plugin.data.conversion.sources import find_sources
    from eqv2_plugin.data.own.parts import write_parts

    found = write_parts(
        find_sources(options.sources),
        options.out,
        options.val,
        options.test,
        options.group_key,
        options.seed,
    )
    for part, frames in found.frames.items():
        print(f"{options.out / part}.extxyz: {frames:,} frames")
    print(f"whole groups by {found.grouped_by}, of {found.groups:,}")
    print_notes(found.notes)
    return 0
