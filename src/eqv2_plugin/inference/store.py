"""Finished relaxations on disk, written one by one, so that a killed job loses none of them.

Each process has a file of its own; whoever reads takes the files of all processes together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from eqv2_plugin.common.text import listed
from eqv2_plugin.inference.records import RecordFile, read_lines, refuse_others
from eqv2_plugin.inference.relaxation import Relaxed

PATTERN, HOLDS = "relaxed.*.jsonl", "relaxations"


def store_path(folder: Path, share: int, processes: int) -> Path:
    """The file of one of several processes."""
    return folder / f"relaxed.{share}-of-{processes}.jsonl"


class RelaxationStore(RecordFile):
    """The file of one process, to which finished relaxations are added.

    A last line that a killed process left incomplete is cut off when the file is opened again.
    ``made_with``, fit for JSON, is what the relaxations are made with.

    Raises:
        ValueError: the file holds relaxations made with something else, or is damaged.
        RuntimeError: another process is writing to it.
    """

    def __init__(self, path: Path, made_with: Mapping[str, Any]) -> None:
        super().__init__(path, made_with, HOLDS)

    def append(self, relaxed: Relaxed) -> None:
        """Add one; it is in the file when this returns."""
        placed = np.isfinite(relaxed.atoms.positions).all()
        self.write(
            {
                "id": relaxed.id,
                "error": relaxed.error,
                "converged": relaxed.converged,
                "energies": relaxed.energies.tolist(),
                "fmax": relaxed.fmax.tolist(),
                # Not finite only where the data are not: then the data have them.
                "positions": relaxed.atoms.positions.tolist() if placed else None,
                "forces": None if np.isnan(relaxed.forces).any() else relaxed.forces.tolist(),
            }
        )


@dataclass(frozen=True)
class Finished:
    """Finished relaxations of all processes."""

    records: dict[str, dict[str, Any]]  # {id: record}
    # Ids that were relaxed more than once, as happens where jobs with different numbers of
    # processes ran at the same time. The first record counts, in the order of the files' names.
    twice: Sequence[str]

    def note(self) -> str:
        """What to tell the user of ids that were relaxed twice; empty if there are none."""
        if not self.twice:
            return ""
        return (
            f"{len(self.twice):,} structure(s) were relaxed twice, by jobs with different numbers "
            "of processes that ran at the same time; the first record counts: "
            f"{listed(self.twice)}"
        )


def read_finished(
    folder: Path,
    made_with: Mapping[str, Any] | None = None,
    wanted: Callable[[str], bool] = lambda _: True,
) -> Finished:
    """The records of all processes.

    Args:
        made_with: what they must have been made with; None for anything.
        wanted: whether the record of an id is kept; all are large.

    Raises:
        ValueError: relaxations were made with something else, or a file is damaged.
    """
    records: dict[str, dict[str, Any]] = {}
    twice: dict[str, None] = {}
    for record in _all_records(folder, made_with):
        identity = record["id"]
        if wanted(identity) and records.setdefault(identity, record) is not record:
            twice[identity] = None
    return Finished(records, list(twice))


def finished_ids(folder: Path, made_with: Mapping[str, Any]) -> set[str]:
    """Ids of all relaxations that are finished, whichever process made them."""
    return {record["id"] for record in _all_records(folder, made_with)}


def read_made_with(folder: Path) -> dict[str, Any]:
    """What the relaxations of a folder were made with."""
    return next(read_lines(min(folder.glob(PATTERN))), {})


def as_relaxed(record: Mapping[str, Any], initial: Atoms) -> Relaxed:
    """A record of `Finished` as it was stored, of a relaxation that started at ``initial``."""
    stored = record["positions"]
    positions = initial.positions if stored is None else np.array(stored, float).reshape(-1, 3)
    if len(positions) != len(initial):
        raise ValueError(
            f"the relaxation of {record['id']} has {len(positions)} atoms, the structure of the "
            f"data set {len(initial)}: the data have changed since"
        )
    initial = initial.copy()
    atoms = initial.copy()
    atoms.positions[:] = positions
    energies = np.array(record["energies"], float)
    forces = record["forces"]
    return Relaxed(
        id=record["id"],
        initial=initial,
        atoms=atoms,
        energy=float(energies[-1]) if len(energies) else math.nan,
        forces=np.full((len(atoms), 3), math.nan) if forces is None else np.array(forces),
        steps=max(len(energies) - 1, 0),
        converged=record["converged"],
        energies=energies,
        fmax=np.array(record["fmax"], float),
        error=record["error"],
    )


def _all_records(folder: Path, made_with: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob(PATTERN)):
        if made_with is not None:
            refuse_others(path, made_with, HOLDS)
        lines = read_lines(path)
        next(lines, None)
        yield from lines
