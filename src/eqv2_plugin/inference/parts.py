"""The parts that an S2EF job is cut into, and the files that finished ones leave.

A part is a run of some thousand structures of one split, as they stand in the data. Which
process predicts it does not change what is in it, so that any number of ranks and array jobs,
killed and started again, leave the same files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eqv2_plugin.common.files import read_npz, save_npz


@dataclass(frozen=True)
class Part:
    """Structures ``start`` to ``stop`` (exclusive) of a split."""

    split: str
    number: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Predicted:
    """The predictions of one part, in the order of its data."""

    ids: np.ndarray  # [n] see `data.ids.s2ef_id`
    energy: np.ndarray  # [n] eV, in the model's precision
    forces: np.ndarray  # [free atoms, 3] eV/Å of all structures in a row
    free: np.ndarray  # [n] numbers of free atoms
    # {name: (sum, number of terms)} of fairchem's evaluator; empty without labels.
    metrics: dict[str, tuple[float, float]]
    # (id, why there is no prediction) of the structures that are not among the n.
    failed: Sequence[tuple[str, str]] = ()


def cut(split: str, structures: int, size: int) -> list[Part]:
    """The parts of a split."""
    starts = range(0, structures, size)
    return [Part(split, n, start, min(start + size, structures)) for n, start in enumerate(starts)]


def part_file(parts: Path, part: Part) -> Path:
    """Its file, in the folder of all parts; it is there when the part is finished."""
    return parts / part.split / f"{part.number:05d}.npz"


def save_part(file: Path, predicted: Predicted) -> None:
    """Write a finished part; its file appears when it is complete."""
    names = sorted(predicted.metrics)
    arrays = {
        "ids": np.asarray(predicted.ids, dtype=str),
        "energy": predicted.energy,
        "forces": predicted.forces,
        "free": np.asarray(predicted.free, np.int64),
        "metrics": np.asarray(names, dtype=str),
        "failed": np.asarray(predicted.failed, dtype=str).reshape(-1, 2),
        "sums": np.array([predicted.metrics[name] for name in names], np.float64),
    }
    save_npz(file, arrays, compressed=False)


def load_part(file: Path, structures: int) -> Predicted:
    """Read a finished part; a ValueError if it is damaged, or does not hold so many structures."""
    try:
        arrays = read_npz(file)
        # Parts of earlier versions have no failures.
        failed = [(str(one), str(why)) for one, why in arrays.get("failed", ())]
        good = structures - len(failed)
        complete = len(arrays["ids"]) == len(arrays["energy"]) == len(arrays["free"]) == good
        if not complete or len(arrays["forces"]) != arrays["free"].sum():
            raise ValueError(f"it does not hold {structures} structures")
        names, sums = arrays["metrics"].tolist(), arrays["sums"].reshape(-1, 2).tolist()
        metrics = {name: (total, count) for name, (total, count) in zip(names, sums, strict=True)}
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{file} is damaged ({error}): delete it and run the same command again"
        ) from error
    return Predicted(
        arrays["ids"], arrays["energy"], arrays["forces"], arrays["free"], metrics, failed
    )
