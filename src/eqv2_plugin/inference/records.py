"""Files of records, one JSON object to a line, of which a killed process loses none.

The first line says what the records were made with. A file is written by one process.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from eqv2_plugin.common.manifest import refuse_other


class RecordFile:
    """A file to which records are added.

    A last line that a killed process left incomplete is cut off when the file is opened again.

    Args:
        made_with: what the records are made with, fit for JSON.
        holds: what they are, in the plural, for errors.

    Raises:
        ValueError: the file holds records made with something else, or is damaged.
        RuntimeError: another process is writing to it.
    """

    def __init__(self, path: Path, made_with: Mapping[str, Any], holds: str) -> None:
        self.path = path
        self.holds = holds
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a buffer: what could not be written is not tried again when the file is closed.
        self._file = path.open("ab", buffering=0)
        try:
            self._lock()
            complete = _length_of_complete_lines(path)
            self._file.truncate(complete)
            if complete:
                refuse_others(path, made_with, holds)
            else:
                self.write(made_with)
        except BaseException:
            self._file.close()
            raise

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record; it is in the file when this returns."""
        left = memoryview((json.dumps(dict(record), allow_nan=False) + "\n").encode())
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}: finished {self.holds} are kept; make room and run the same "
                "command again",
                str(self.path),
            ) from error

    def __enter__(self) -> Self:
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


def refuse_others(path: Path, made_with: Mapping[str, Any], holds: str) -> None:
    """A ValueError where the records of a file were made with something else.

    A file that another process is just creating does not say yet what they are made with.
    """
    if before := next(read_lines(path), None):
        refuse_other(before, made_with, path, holds)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """What stands in complete lines; the first says what the others were made with."""
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
