"""``eqv2 submission``: files for EvalAI."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser("submission", help="files for EvalAI: check")
    actions = parser.add_subparsers(dest="submission_command", required=True)
    check = actions.add_parser(
        "check",
        help="whether a file has the layout that EvalAI reads",
        description="Of the file of one split, or of a joined submission: arrays, types, ids, "
        "finite numbers, chunk_idx, and with --split-data ids and atoms against the data. Exit "
        "status 1 if a line is bad.",
    )
    check.add_argument("file", type=Path, metavar="FILE", help="npz file")
    check.add_argument("--dataset", choices=("oc20", "oc22"), help="default: told by the splits")
    check.add_argument("--task", choices=("s2ef", "is2re", "is2rs"), help="default: by the arrays")
    check.add_argument(
        "--split-data",
        nargs="+",
        default=[],
        metavar="NAME=PATH",
        help="data of a split (folder of .aselmdb or .lmdb files, or embedded:SAMPLE/SPLIT)",
    )
    check.set_defaults(run=run_check)


def run_check(options: argparse.Namespace) -> int:
    """Print the table; returns 1 if a line is bad."""
    # These imports take seconds; `eqv2 --help` should not.
    from eqv2_plugin.common.findings import Verdict, table, worst
    from eqv2_plugin.tasks.submission.check import check_submission, expected_rows

    data = {}
    for argument in options.split_data:
        name, equals, path = argument.partition("=")
        if not (name and equals and path) or name in data:
            raise ValueError(f"--split-data {argument}: give NAME=PATH, each name once")
        data[name] = partial(expected_rows, path)
    found = check_submission(options.file, options.dataset, options.task, data)
    print(f"{options.file}\n{table(found)}")
    verdict = worst(found)
    print(f"verdict: {verdict}")
    return 1 if verdict is Verdict.BAD else 0
