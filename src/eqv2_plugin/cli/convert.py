"""``eqv2 convert``: a file of fairchem-core 1, or of Equiformer's code, into fairchem 2's."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqv2_plugin.cli.info import print_lines
from eqv2_plugin.cli.unsafe import add_unsafe
from eqv2_plugin.models.metadata import (
    ENERGY_REFERENCES,
    EnergyKind,
    ModelMetadata,
    energy_kind_of,
)

if TYPE_CHECKING:
    import torch

REFERENCE_HELP = "what the energies are, where OLD does not tell: " + "; ".join(
    f"{key} = {words}" for key, words in ENERGY_REFERENCES.items()
)


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "convert",
        help="convert a published or v1 checkpoint",
        description="Convert a checkpoint of fairchem-core 1 or OCP (single class, hydra, DeNS, "
        "stress, OC22 linear references), or weights for MD17 of the code of Equiformer (version "
        "1), into an inference checkpoint of fairchem 2, which "
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
        help="fairchem-core 1's config, in place of the one in OLD; for Equiformer, a file with "
        "the keywords of its model below 'model', where its size is none of the published",
    )
    parser.add_argument(
        "--energy-reference",
        choices=[kind.value for kind in EnergyKind],
        metavar="KEY",
        help=REFERENCE_HELP,
    )
    parser.add_argument(
        "--energy-std",
        type=float,
        metavar="KCAL",
        help="Equiformer: standard deviation of the training energies in kcal/mol, which its "
        "training script prints",
    )
    parser.add_argument(
        "--wigner-3j",
        choices=("e3nn_0.4", "e3nn_0.5"),
        help="Equiformer: version of e3nn that it was trained with, or later than 0.5, where OLD "
        "holds no tables that tell (the authors' is 0.4)",
    )
    add_unsafe(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Convert, and print what was done."""
    from eqv2_plugin.checkpoints.equiformer_v1.convert import is_authors_file
    from eqv2_plugin.checkpoints.reading import read_checkpoint
    from eqv2_plugin.checkpoints.v1.convert import convert_file

    if options.old.is_file() and is_authors_file(read_checkpoint(options.old, options.unsafe)):
        return _convert_equiformer(options)
    if options.energy_std is not None or options.wigner_3j is not None:
        raise ValueError(
            f"--energy-std and --wigner-3j are for weights of Equiformer's code, which "
            f"{options.old} does not hold"
        )
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
        **_checked(metadata, done.checked),
    }
    notes = list(old.notes)
    if energy_kind_of(metadata) == EnergyKind.UNKNOWN:
        notes.append("if you know what the energies are, say so with --energy-reference")
    print_lines(lines, notes)
    task_name = old.content.header.tasks[0].datasets[0]
    written = f"{options.new} (FAIRChemCalculator's task_name: {task_name!r})"
    print_lines({"written": written})
    return 0


def _checked(metadata: ModelMetadata, checked: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    return {
        "prediction": ", ".join(
            f"{task} up to {float(value.abs().max()):.4g} {metadata.units[task]}"
            for task, value in checked.items()
        )
        + " on the built-in structure",
        "SHA-256 of file": f"{metadata.source_sha256}  {metadata.source_file}",
        "of weights": metadata.weights_sha256,
    }


def _convert_equiformer(options: argparse.Namespace) -> int:
    from eqv2_plugin.checkpoints.equiformer_v1.convert import convert_authors_file
    from eqv2_plugin.checkpoints.v1.config import read_yaml

    for name in ("weights", "energy_reference"):
        if getattr(options, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} is for files of fairchem-core 1; {options.old} holds "
                "weights of Equiformer's code"
            )
    done = convert_authors_file(
        options.old,
        options.new,
        energy_std=options.energy_std,
        convention=options.wigner_3j,
        config=read_yaml(options.config)["model"] if options.config else None,
        unsafe=options.unsafe,
    )
    metadata = done.written.metadata
    lines = {
        "model": f"Equiformer (version 1), {done.model}",
        "Clebsch-Gordan signs": done.signs,
        "parameters": f"{done.written.parameters:,}, all of them fit",
        "energy": metadata.energy_reference,
        "energy kind": energy_kind_of(metadata).value,
        **_checked(metadata, done.written.checked),
        "written": f"{options.new} (FAIRChemCalculator's task_name: 'md17')",
    }
    print_lines(lines)
    return 0
