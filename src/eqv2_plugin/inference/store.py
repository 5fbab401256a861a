"""Finished relaxations on disk, written one by one, so that a killed job loses none of them.

Each process has a file of its own, JSON, one record to a line; the first line says what they were
made with. Whoever reads takes the files of all processes together.
"""

from __future__ import annotations

import fcntl
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from eqv2_plugin.common.manifest import refuse_other
from eqv2_plugin.common.text import listed
from eqv2_plugin.inference.relaxation import Relaxed

PATTERN = "relaxed.*.jsonl"


def store_path(folder: Path, share: int, processes: int) -> Path:
    """The file of one of several processes."""
    return folder / f"relaxed.{share}-of-{processes}.jsonl"


class RelaxationStore:
    """The file of one process, to which finished relaxations are added.

    A last line that a killed process left incomplete is cut off when the file is opened again.
    ``made_with``, fit for JSON, is what the relaxations are made with.

    Raises:
        ValueError: the file holds relaxations made with something else, or is damaged.
        RuntimeError: another process is writing to it.
    """

    def __init__(self, path: Path, made_with: Mapping[str, Any]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a buffer: what could not be written is not tried again when the file is closed.
        self._file = path.open("ab", buffering=0)
        try:
            self._lock()
            complete = _length_of_complete_lines(path)
            self._file.truncate(complete)
            if complete:
                _refuse_other(path, made_with)
            else:
                self._write(dict(made_with))
        except BaseException:
            self._file.close()
            raise

    def append(self, relaxed: Relaxed) -> None:
        """Add one; it is in the file when this returns."""
        placed = np.isfinite(relaxed.atoms.positions).all()
        self._write(
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

    def __enter__(self) -> RelaxationStore:
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(
                f"another process is writing to {self.path}: is the same job still running?"
            ) from error

    def _write(self, record: dict[str, Any]) -> None:
        left = memoryview((json.dumps(record, allow_nan=False) + "\n").encode())
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}: finished relaxations are kept; make room and run the same "
                "command again",
                str(self.path),
            ) from error


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
    return next(_lines(min(folder.glob(PATTERN))), {})


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
            _refuse_other(path, made_with)
        lines = _lines(path)
        next(lines, None)
        yield from lines


def _refuse_other(path: Path, made_with: Mapping[str, Any]) -> None:
    """A store that another process is just creating does not say yet what it is made with."""
    if before := next(_lines(path), None):
        refuse_other(before, made_with, path, "relaxations")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """What stands in complete lines."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield json.loads(line)
            except ValueError as error:
                raise ValueError(
                    f"{path} is damaged in line {number}: delete it and run the same command again"
                ) from error


def _length_of_complete_lines(path: Path, block: int = 1 << 16) -> int:
    """Bytes."""
    end = path.stat().st_size
    with path.open("rb") as file:
        while end:
            start = max(end - block, 0)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0
