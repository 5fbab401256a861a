"""``eqv2 predict``: one number per structure, as a table."""

from __future__ import annotations

import argparse
from pathlib import Path

from eqv2_plugin.cli.unsafe import add_unsafe


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "predict",
        help="table of a property (or the energy) of structures",
        description="Predict one number per structure: the property that the model was trained on "
        "(eqv2_train.yml target_key=NAME), else the energy. Writes a CSV table with id, "
        "prediction, label and error where the structures store a label, and why a structure "
        "failed. Reads what eqv2 data convert reads.",
    )
    parser.add_argument("file", type=Path, help="inference checkpoint (.pt) or .safetensors")
    parser.add_argument("sources", type=Path, nargs="+", metavar="SRC", help="files or folders")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument(
        "--label", metavar="NAME", help="entry that holds the label (default: as in training)"
    )
    parser.add_argument("--task", help="data set that the model predicts for, if it knows several")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    add_unsafe(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the table, and print how good it is; returns 1 where a structure failed."""
    # These imports take seconds; `eqv2 --help` should not.
    import logging

    import torch

    from eqv2_plugin.data.conversion.sources import find_sources
    from eqv2_plugin.inference.predictor import open_unit
    from eqv2_plugin.inference.scalars import ScalarPredictor
    from eqv2_plugin.tasks.scalar.table import summary, write_table

    logging.getLogger().setLevel(logging.ERROR)  # fairchem warns of every setting
    sources = find_sources(options.sources)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    unit = open_unit(options.file, device, torch.float32, options.unsafe)
    predict = ScalarPredictor(unit, options.task)
    if predict.is_energy:
        print(predict.energy_in_words("energies of this model: the checkpoint does not say which"))
    rows = write_table(predict, sources, options.out, options.label)
    print("\n".join([f"{options.out}: {len(rows):,} rows", *summary(rows, predict.name)]))
    return 1 if any(row.failed for row in rows) else 0
