"""``eqv2 data check``."""

from __future__ import annotations

import argparse
from pathlib import Path

from eqv2_plugin.cli.data.references import add_reading_arguments


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser of ``eqv2 data``."""
    check = commands.add_parser(
        "check", help="look for errors in data sets; exit status 1 if something is bad"
    )
    add_reading_arguments(check)
    check.add_argument("--out", type=Path, metavar="FOLDER", help="write histograms there")
    check.add_argument(
        "--sample", type=int, metavar="N", help="look at N frames of each, evenly spread"
    )
    check.set_defaults(run=run_check)


def run_check(options: argparse.Namespace) -> int:
    """Print the table; returns 1 if any verdict is "bad"."""
    # These imports take seconds; `eqv2 --help` should not.
    from eqv2_plugin.common.findings import Verdict, table, worst
    from eqv2_plugin.data.inspection.check import check_datasets, plot_report
    from eqv2_plugin.data.inspection.frames import open_dataset

    if options.sample is not None and options.sample < 1:
        raise ValueError(f"--sample must be a positive number of frames, not {options.sample}")
    if len(set(options.sources)) < len(options.sources):
        raise ValueError(f"a data set is named twice: {' '.join(options.sources)}")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    datasets = [open_dataset(source) for source in options.sources]
    report = check_datasets(datasets, options.sample, options.workers)
    for name, findings in report.findings.items():
        print(f"{name}\n{table(findings)}\n")
    if report.between:
        print(f"between the data sets\n{table(report.between)}\n")
    if options.out is not None:
        for path in plot_report(report, options.out):
            print(f"written: {path}")
    verdict = worst(report.all_findings())
    meaning = {
        Verdict.OK: "nothing unusual",
        Verdict.LOOK: "look at the lines marked so: they may be meant",
        Verdict.BAD: "the lines marked bad make training wrong",
    }
    print(f"verdict: {verdict} ({meaning[verdict]})")
    return 1 if verdict is Verdict.BAD else 0
