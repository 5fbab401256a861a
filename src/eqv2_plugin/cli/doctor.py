"""``eqv2 doctor``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from eqv2_plugin.cli.unsafe import add_unsafe


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser of ``eqv2``."""
    doctor = commands.add_parser(
        "doctor", help="measure what a model breaks: symmetries, energy conservation, batches"
    )
    doctor.add_argument("file", type=Path, help="inference checkpoint (.pt) or .safetensors")
    doctor.add_argument(
        "--structures",
        type=Path,
        metavar="FILE",
        help="any file that ASE reads (default: a sample)",
    )
    doctor.add_argument("--task", help="data set whose energies and forces are examined")
    doctor.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    doctor.add_argument(
        "--seconds", type=_positive, default=90.0, help="time for the checks (default: 90)"
    )
    doctor.add_argument("--json", type=Path, metavar="OUT", help="write the numbers there")
    doctor.add_argument("--plot", type=Path, metavar="OUT.png", help="write curves there")
    add_unsafe(doctor)
    doctor.set_defaults(run=run_doctor)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def run_doctor(options: argparse.Namespace) -> int:
    """Print the table; returns 1 if any verdict is "bad"."""
    # These imports take seconds; `eqv2 --help` should not.
    import json
    import logging

    import torch

    from eqv2_plugin.common.files import save_text
    from eqv2_plugin.common.findings import Verdict, table, worst
    from eqv2_plugin.doctor.examination import Examination
    from eqv2_plugin.doctor.examine import as_json, examine, plot
    from eqv2_plugin.doctor.subject import open_subject

    for path in (options.json, options.plot):
        if path is not None and not path.absolute().parent.is_dir():
            raise ValueError(f"the folder of {path} does not exist")
    if options.plot is not None and options.plot.suffix != ".png":
        raise ValueError(f"--plot writes .png files, but got {options.plot}")
    logging.getLogger().setLevel(logging.ERROR)  # fairchem warns of every setting
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    opened = open_subject(options.file, device, options.task, options.structures, options.unsafe)
    kind = "direct forces" if opened.subject.direct else "forces as gradient"
    threads = f", {torch.get_num_threads()} threads" if device == "cpu" else ""
    print(f"{options.file.name}: task {opened.task_name}, {kind}; on {device}{threads}")
    sizes = ", ".join(str(len(atoms)) for atoms in opened.structures)
    print(f"structures: {opened.origin}, rattled; {sizes} atoms\n", flush=True)
    found = Examination(opened.subject, opened.structures, options.seconds)
    examine(found, lambda name: print(f"eqv2 doctor: {name}", file=sys.stderr, flush=True))
    print(table(found.findings))
    if options.json is not None:
        content = {
            "file": str(options.file),
            "task": opened.task_name,
            "direct_forces": opened.subject.direct,
            "device": device,
            "structures": opened.origin,
            "checks": as_json(found.findings),
        }
        save_text(options.json, json.dumps(content, indent=1, allow_nan=False) + "\n")
        print(f"written: {options.json}")
    if options.plot is not None:
        plot(found, options.file.name, options.plot)
        print(f"written: {options.plot}")
    meaning = {
        Verdict.GOOD: "every check passed: fit for relaxations, and for dynamics with its forces",
        Verdict.LOOK: "nothing is broken; whether the lines marked so matter depends on the use",
        Verdict.BAD: "the lines marked bad name what no use of the model can bear",
        Verdict.NOT_RUN: "nothing is wrong in the checks that were run, but some were not",
        Verdict.INFO: "nothing was judged",
    }
    verdict = worst(found.findings)
    print(f"verdict: {verdict} ({meaning[verdict]})")
    return 1 if verdict is Verdict.BAD else 0
