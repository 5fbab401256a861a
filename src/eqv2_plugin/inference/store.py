"""Finished relaxations on disk, written one by one, so that a killed job loses none of them."""

from __future__ import annotations

import fcntl
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from ase import Atoms

from eqv2_plugin.inference.relaxed import Relaxed

PATTERN = "relaxed.*.jsonl"


def store_path(folder: Path, share: int, processes: int) -> Path:
    """The file of one of several processes."""
    return folder / f"relaxed.{share}-of-{processes}.jsonl"


class RelaxationStore:
    """A file to which finished relaxations are added: JSON, one to a line.

    Its first line says what they were made with. A last line that a killed process left
    incomplete is cut off when the file is opened again.

    Args:
        path: the file.
        description: what the relaxations are made with, as JSON types.

    Raises:
        ValueError: the file holds relaxations made with something else, or is damaged.
        RuntimeError: another process is writing to it.
        OSError: it cannot be written.
    """

    def __init__(self, path: Path, description: Mapping[str, Any]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a buffer: what could not be written is not tried again when the file is closed.
        self._file = path.open("ab", buffering=0)
        try:
            self._lock()
            whole = _whole_length(path)
            self._file.truncate(whole)
            if whole:
                check_description(path, description)
            else:
                self._write(dict(description))
        except BaseException:
            self._file.close()
            raise

    def append(self, relaxed: Relaxed) -> None:
        """Add one; it is in the file when this returns.

        Raises:
            OSError: the disk is full, or the file cannot be written.
        """
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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


def check_description(path: Path, description: Mapping[str, Any]) -> None:
    """See that a store's relaxations were made with the same things.

    A store that another process is just creating has no description yet.

    Raises:
        ValueError: they were not; the differences are named.
    """
    before = read_description(path)
    if before is None:
        return
    changed = [k for k in {**before, **description} if before.get(k) != description.get(k)]
    if changed:
        listed = "; ".join(f"{k}: {before.get(k)} -> {description.get(k)}" for k in changed)
        raise ValueError(
            f"{path} holds relaxations made with something else ({listed}): give the new ones "
            "another name (run_name=NAME), or delete that folder"
        )


def read_description(path: Path) -> dict[str, Any] | None:
    """What a store's relaxations were made with; None while it has not been written."""
    return next(_lines(path), None)


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a store, without its description; an incomplete last line is left out.

    Raises:
        ValueError: a line that is complete is damaged.
    """
    lines = _lines(path)
    next(lines, None)
    yield from lines


def as_relaxed(record: Mapping[str, Any], initial: Atoms) -> Relaxed:
    """A record as it was stored.

    Args:
        record: of `read_records`.
        initial: where the relaxation started.

    Raises:
        ValueError: the structure has another number of atoms than the record.
    """
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


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            yield _parsed(path, number, line)


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged in line {number}: delete it and run the same command again"
        ) from error


def _whole_length(path: Path) -> int:
    """Bytes up to the end of the last complete line."""
    size = path.stat().st_size
    with path.open("rb") as file:
        return _after_last_newline(file, size)


def _after_last_newline(file: IO[bytes], size: int, block: int = 1 << 16) -> int:
    end = size
    while end:
        start = max(end - block, 0)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
