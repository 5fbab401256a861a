"""``eqv2 convert``: a checkpoint of fairchem-core 1 into one of fairchem 2."""

from __future__ import annotations

import argparse
from pathlib import Path

from eqv2_plugin.cli.info import print_lines
from eqv2_plugin.cli.unsafe import add_unsafe
from eqv2_plugin.models.metadata import ENERGY_REFERENCES, EnergyKind, energy_kind_of

REFERENCE_HELP = "what the energies are, where OLD does not tell: " + "; ".join(
    f"{key} = {words}" for key, words in ENERGY_REFERENCES.items()
)


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "convert",
        help="convert a published or v1 checkpoint",
        description="Convert a checkpoint of fairchem-core 1 or OCP (single class, hydra, DeNS, "
        "stress, OC22 linear references) into an inference checkpoint of fairchem 2, which "
        "FAIRChemCalculator.from_model_checkpoint loads. All weights must fit; NEW is written "
        "only after a prediction with it was finite.",
    )
    parser.add_argument("old", type=Path, metavar="OLD.pt", help="file to convert")
    parser.add_argument("new", type=Path, metavar="NEW.pt", help="file to write")
    parser.add_argument(
        "--weights",
        choices=("ema", "non-ema", "raw"),
        metavar="{ema,non-ema}",
        help="EMA weights, averaged over the training, or the last ones, also called raw (default: "
        "what fairchem-core 1's calculator used)",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="v1.yml",
        help="fairchem-core 1's config, in place of the one in OLD",
    )
    parser.add_argument(
        "--energy-reference",
        choices=[kind.value for kind in EnergyKind],
        metavar="KEY",
        help=REFERENCE_HELP,
    )
    add_unsafe(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Convert, and print what was done."""
    from eqv2_plugin.checkpoints.v1.convert import convert_file

    done = convert_file(
        options.old,
        options.new,
        "raw" if options.weights == "non-ema" else options.weights,
        options.config,
        options.unsafe,
        options.energy_reference,
    )
    old, metadata = done.old, done.metadata
    lines = {
        "layout": old.layout.describe(),
        "weights": f"{old.weights.name} ({old.weights.reason})",
        "parameters": f"{done.parameters:,}, all of them fit",
        "energy": f"{metadata.energy_reference} ({metadata.provenance})",
        "energy kind": energy_kind_of(metadata).value,
        "functional": metadata.functional or "unknown",
        "training data": metadata.training_data or "unknown",
        "prediction": ", ".join(
            f"{task} up to {float(value.abs().max()):.4g} {metadata.units[task]}"
            for task, value in done.checked.items()
        )
        + " on the built-in structure",
        "SHA-256 of file": f"{metadata.source_sha256}  {metadata.source_file}",
        "of weights": metadata.weights_sha256,
    }
    notes = list(old.notes)
    if energy_kind_of(metadata) == EnergyKind.UNKNOWN:
        notes.append("if you know what the energies are, say so with --energy-reference")
    print_lines(lines, notes)
    task_name = old.content.header.tasks[0].datasets[0]
    written = f"{options.new} (FAIRChemCalculator's task_name: {task_name!r})"
    print_lines({"written": written})
    return 0
