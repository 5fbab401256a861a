"""``eqv2 data fit-references`` and ``eqv2 data fit-normalizer``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    import numpy as np

    from eqv2_plugin.data.references.fitting import FittedNormalizers, FittedReferences


def add_parsers(commands: argparse._SubParsersAction) -> None:
    """Add both commands to the parser of ``eqv2 data``."""
    references = commands.add_parser(
        "fit-references", help="fit an energy per element by least squares"
    )
    add_reading_arguments(references)
    references.add_argument("--out", required=True, type=Path, metavar="FILE.npz")
    references.add_argument(
        "--property", default="energy", help="number stored with each frame (default: energy)"
    )
    references.set_defaults(run=run_references)

    normalizer = commands.add_parser(
        "fit-normalizer", help="mean and spread of energies and forces, as lines for a config"
    )
    add_reading_arguments(normalizer)
    normalizer.add_argument(
        "--references", metavar="NAME|FILE", help="element references to subtract first"
    )
    normalizer.add_argument("--out", type=Path, metavar="FILE.yaml", help="write the lines there")
    normalizer.set_defaults(run=run_normalizer)


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Sources, and the processes that read them."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SRC",
        help="folder or file of labelled frames: .aselmdb, .db, .json or fairchem 1's .lmdb; or "
        "embedded:SAMPLE/SPLIT",
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="processes that read (default: 0, this one)"
    )


def run_references(options: argparse.Namespace) -> int:
    """Fit, print the table, write the file; returns the exit status."""
    # These imports take seconds; `eqv2 --help` should not.
    from eqv2_plugin.data.inspection.frames import open_dataset
    from eqv2_plugin.data.references.coefficients import save_coefficients
    from eqv2_plugin.data.references.fitting import fit_references

    if options.out.suffix != ".npz":
        raise ValueError(f"element references are written as .npz, but --out is {options.out}")
    check_writable(options.out)
    datasets = [open_dataset(source) for source in options.sources]
    fitted = fit_references(datasets, options.property, options.workers)
    fit = fitted.fit
    save_coefficients(options.out, fit.coefficients, fit.frames, fit.atoms, options.property)
    print(describe_references(fitted))
    print(
        f"written to {options.out}. For a config:\n\n{written_out_block(fit.coefficients)}", end=""
    )
    return 0


def run_normalizer(options: argparse.Namespace) -> int:
    """Fit and print the lines of a config; returns the exit status."""
    from eqv2_plugin.common.files import save_text
    from eqv2_plugin.data.inspection.frames import open_dataset
    from eqv2_plugin.data.references.coefficients import PUBLISHED, load_coefficients
    from eqv2_plugin.data.references.fitting import fit_normalizers

    if options.out is not None:
        check_writable(options.out)
    name = options.references
    coefficients = None if name is None else load_coefficients(name)
    datasets = [open_dataset(source) for source in options.sources]
    fitted = fit_normalizers(datasets, coefficients, options.workers)
    lines = normalizer_blocks(fitted, options.sources)
    if name in PUBLISHED:
        lines += _block("energy_element_references", "element_references", {"name": name})
    elif coefficients is not None:
        lines += written_out_block(coefficients)
    print(lines, end="")
    if options.out is not None:
        save_text(options.out, lines)
    return 0


def check_writable(path: Path) -> None:
    """A run of hours must not end at its output file."""
    if path.is_dir():
        raise IsADirectoryError(f"--out {path} is a folder: give a file in it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--out {path}: there is no folder {path.parent}")


def describe_references(fitted: FittedReferences) -> str:
    """The table of coefficients, what is not determined, and what the fit leaves."""
    from ase.data import chemical_symbols

    fit = fitted.fit
    lines = [f"{'element':<8} {'eV per atom':>14} {'frames':>12} {'atoms':>14}"]
    for z in fit.atoms.nonzero()[0]:
        row = f"{chemical_symbols[z]:<8} {fit.coefficients[z]:>14.6f} {fit.frames[z]:>12,}"
        lines.append(f"{row} {fit.atoms[z]:>14,}")
    for group in fit.undetermined:
        symbols = ", ".join(chemical_symbols[z] for z in group)
        lines.append(
            f"{symbols}: the data holds these in proportions that leave their own values open; "
            "of all that fit equally well, the smallest are given (minimum norm)"
        )
    before, after = fitted.before, fitted.after
    lines.append(f"{fitted.frames:,} frames; elements that they lack are NaN in the file")
    lines.append(f"{'deviation, eV':<28} {'MAE':>12} {'RMSE':>12}")
    lines.append(f"{'before: from the mean':<28} {before.mae:>12.6f} {before.rmse:>12.6f}")
    lines.append(f"{'after: from the references':<28} {after.mae:>12.6f} {after.rmse:>12.6f}")
    return "\n".join(lines)


def written_out_block(coefficients: np.ndarray) -> str:
    """Element references with their values, as a config takes them."""
    from eqv2_plugin.data.references.coefficients import by_symbol

    values = {"values": by_symbol(coefficients)}
    return _block("energy_element_references", "written_out_references", values)


def normalizer_blocks(fitted: FittedNormalizers, sources: list[str]) -> str:
    """Both normalisers as a config takes them."""
    energy = {"mean": fitted.energy_mean, "rmsd": fitted.energy_rmsd}
    forces = {"mean": 0.0, "rmsd": fitted.force_rms}
    return (
        f"# {fitted.frames} frames, {fitted.free_atoms} free atoms of {', '.join(sources)}.\n"
        "# For conservative forces set the rmsd of the forces to that of the energy.\n"
        + _block("energy_normalizer", "normalizer", energy)
        + _block("force_normalizer", "normalizer", forces)
    )


def _block(key: str, function: str, arguments: dict[str, Any]) -> str:
    """Lines of a config that call a function of our references."""
    target = {"_target_": f"eqv2_plugin.data.references.{function}", **arguments}
    # The library quotes the symbols that YAML would take for true and false (No, Y, N).
    return yaml.safe_dump({key: target}, sort_keys=False)
