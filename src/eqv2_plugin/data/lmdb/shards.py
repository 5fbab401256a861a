"""One LMDB file, or a folder of them, as one sequence of pickled records."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from eqv2_plugin.unpickling.restricted import restricted_loads

# Files that one process keeps open per data set: a training set and four for validation stay
# below the usual limit of 1024. Reopening one takes 0.03 ms (and py-lmdb loses 0.1 kB each time).
MAX_OPEN = 128
_LENGTH = b"length"
_MAKE_AGAIN = "copy or make the file again"


class Shards:
    """Records by one running number over all files, in the order of the sorted file names.

    The keys "0", "1", ... begin again in every file. A file's number of records is its
    entry "length", else the number of its entries. Files are opened when they are read,
    in each process on its own, at most ``MAX_OPEN`` at a time.
    """

    def __init__(self, paths: Sequence[str], lengths: Sequence[int]) -> None:
        self.paths = list(paths)
        self.ends = np.cumsum(np.asarray(lengths, np.int64))
        self._open = _opener()

    @classmethod
    def at(cls, source: str | os.PathLike[str]) -> Shards:
        """The records of one LMDB file, or of all ``*.lmdb`` in a folder.

        Raises:
            ValueError: a file that is no LMDB, is cut off, or misses records.
        """
        path = Path(source).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        files = [path] if path.is_file() else sorted(path.glob("*.lmdb"))
        if not files:
            raise FileNotFoundError(f"no *.lmdb file in the folder {path}")
        lengths = [_count_records(str(file)) for file in files]
        if not sum(lengths):
            raise ValueError(f"there is no record in {path}")
        return cls([str(file) for file in files], lengths)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """Number of the file, and of the record in it; an IndexError if there is none."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        file = int(np.searchsorted(self.ends, index, side="right"))
        return file, index - (int(self.ends[file - 1]) if file else 0)

    def describe(self, index: int) -> str:
        """The record's place, for messages."""
        file, key = self.locate(index)
        return f"record '{key}' of {self.paths[file]}"

    def read(self, index: int) -> bytes:
        """The pickled record; a ValueError if the file has a gap."""
        file, key = self.locate(index)
        # A process forked from this one must not use its parent's environments.
        environment = self._open(self.paths[file], os.getpid())
        with environment.begin() as transaction:
            pickled = transaction.get(str(key).encode())
        if pickled is None:
            raise ValueError(f"{self.describe(index)} is missing: {_MAKE_AGAIN}")
        return pickled

    def __getstate__(self) -> dict[str, Any]:
        return {"paths": self.paths, "ends": self.ends}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open = _opener()


def _opener() -> Any:
    # An evicted environment closes when its last reader has dropped it.
    return functools.lru_cache(MAX_OPEN)(lambda path, _process: open_lmdb(path))


def open_lmdb(path: str) -> lmdb.Environment:
    """Open one file for reading, without lock file.

    Raises:
        ValueError: it is no LMDB file, or shorter than it says. (LMDB would kill the process
            on the first access beyond its end.)
    """
    try:
        environment = lmdb.open(path, subdir=False, readonly=True, lock=False)
    except lmdb.Error as error:
        raise ValueError(f"cannot open {path} as LMDB ({error}): {_MAKE_AGAIN}") from error
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    size = os.path.getsize(path)
    if size < needed:
        environment.close()
        raise ValueError(f"{path} is cut off: {size} of {needed} bytes. {_MAKE_AGAIN}")
    return environment


def _count_records(path: str) -> int:
    environment = open_lmdb(path)
    try:
        entries = environment.stat()["entries"]
        with environment.begin() as transaction:
            stored = transaction.get(_LENGTH)
            count = entries if stored is None else _stored_length(stored, entries, path)
            has_last, has_next = (
                transaction.get(str(key).encode()) is not None for key in (count - 1, count)
            )
        # Any other gap shows when that record is read; looking at every key takes minutes.
        if count and (not has_last or (stored is None and has_next)):
            raise ValueError(
                f"{path} should have {count} records with keys '0' to '{count - 1}': {_MAKE_AGAIN}"
            )
    except lmdb.Error as error:
        raise ValueError(f"cannot read {path} ({error}): {_MAKE_AGAIN}") from error
    finally:
        environment.close()
    return count


def _stored_length(stored: bytes, entries: int, path: str) -> int:
    try:
        count = restricted_loads(stored)
    except ValueError as error:
        raise ValueError(f"entry 'length' of {path}: {error}") from error
    if type(count) is not int or not 0 <= count < entries:
        raise ValueError(
            f"{path} has {entries - 1} records, but its entry 'length' says {count!r}: "
            f"{_MAKE_AGAIN}"
        )
    return count
