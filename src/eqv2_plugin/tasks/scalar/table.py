"""Predictions of one number per structure, as a table beside what is stored."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from tqdm import tqdm

from eqv2_plugin.common.files import atomic_write
from eqv2_plugin.common.text import listed
from eqv2_plugin.data.conversion.sources import FileSource
from eqv2_plugin.data.ids import split_frame
from eqv2_plugin.data.labels import read_labels
from eqv2_plugin.data.own.keys import stored
from eqv2_plugin.inference.resilient import SafePredictor
from eqv2_plugin.inference.scalars import ScalarPredictor

COLUMNS = ("id", "prediction", "label", "error", "failed")
_ATOMS_PER_BATCH = 2000
_Structure = tuple[str, Atoms, float]  # name, structure, label


@dataclass(frozen=True)
class Row:
    """One structure; NaN where there is no number."""

    id: str  # sid, with the frame where one is stored; else file and number
    prediction: float  # in the units of the training data
    label: float
    failed: str  # why there is no prediction

    @property
    def error(self) -> float:
        """Prediction minus label."""
        return self.prediction - self.label


def write_table(
    predict: ScalarPredictor, sources: Sequence[FileSource], path: Path, label: str | None = None
) -> list[Row]:
    """Predict all structures of some files, and write a table (CSV) that appears when it is whole.

    Args:
        label: name under which the number is stored with the structures; by default that of the
            training data.

    Returns:
        The rows of the table.

    Raises:
        FileExistsError: there is such a file.
        ValueError: a file is damaged, or holds no structure; no structure stores ``label``; or
            labels that contradict each other.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists: give another --out, or remove it")
    safe = SafePredictor(predict.numbers)
    rows: list[Row] = []
    with tqdm(unit=" structures", disable=None) as bar:
        for batch in _batches(_structures(sources, predict, label)):
            numbers = safe([atoms for _, atoms, _ in batch])
            for (name, _, known), number in zip(batch, numbers, strict=True):
                if isinstance(number, str):
                    rows.append(Row(name, math.nan, known, number))
                else:
                    rows.append(Row(name, number, known, ""))
            bar.update(len(batch))
    if not rows:
        raise ValueError(f"{listed([s.name for s in sources])} hold no structure")
    if label is not None and all(math.isnan(row.label) for row in rows):
        raise ValueError(f"--label {label}: no structure stores such a number")
    with atomic_write(path) as building, building.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            numbers_of = (row.prediction, row.label, row.error)
            writer.writerow([row.id, *(_shown(number) for number in numbers_of), row.failed])
    return rows


def summary(rows: Sequence[Row], name: str) -> list[str]:
    """How many were predicted, and how well, in a few lines."""
    failed = [row for row in rows if row.failed]
    lines = [f"{len(rows) - len(failed):,} structures predicted ({name})"]
    if failed:
        lines.append(f"{len(failed):,} failed, the first {failed[0].id}: {failed[0].failed}")
    known = [row for row in rows if not math.isnan(row.error)]
    if known:
        errors = np.array([row.error for row in known])
        spread = np.std([row.label for row in known])
        lines.append(
            f"of {len(known):,} with a label: MAE {np.abs(errors).mean():.4g}, "
            f"RMSE {np.sqrt((errors**2).mean()):.4g}; labels vary by {spread:.4g} (std)"
        )
    return lines


def _structures(
    sources: Sequence[FileSource], predict: ScalarPredictor, label: str | None
) -> Iterator[_Structure]:
    """Name, structure and label (NaN without one) of each frame."""
    for source in sources:
        for index, (where, atoms) in enumerate(source.stored()):
            sid, fid = atoms.info.get("sid"), atoms.info.get("fid")
            if sid is None:
                sid, fid = source.system, index
            system, frame = split_frame(str(sid))
            number = frame if fid is None else fid
            name = system if number is None else f"{system}_{number}"
            yield name, atoms, _label(atoms, where, predict, label)


def _label(atoms: Atoms, where: str, predict: ScalarPredictor, label: str | None) -> float:
    if label is None and predict.is_energy:
        energy = read_labels(atoms, where).energy
        return math.nan if energy is None else energy
    value = stored(atoms, label or predict.name)
    if value is None or isinstance(value, str) or np.size(value) != 1:
        return math.nan
    return float(np.asarray(value).reshape(()))


def _batches(structures: Iterator[_Structure]) -> Iterator[list[_Structure]]:
    batch: list[_Structure] = []
    atoms = 0
    for one in structures:
        if batch and atoms + len(one[1]) > _ATOMS_PER_BATCH:
            yield batch
            batch, atoms = [], 0
        batch.append(one)
        atoms += len(one[1])
    if batch:
        yield batch


def _shown(number: float) -> str:
    return "" if math.isnan(number) else repr(number)
