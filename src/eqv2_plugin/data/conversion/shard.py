"""One shard: the frames of some sources in one ASE database, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import lmdb
import numpy as np
from ase.db.core import now
from ase.db.row import AtomsRow
from ase_db_backends.aselmdb import LMDBDatabase

from eqv2_plugin.common.files import read_npz, save_npz
from eqv2_plugin.data.conversion.frame import Frame, Source, check_frame, frame_id, id_key

# Frames of one transaction: enough that its sync to disk costs little, few enough for memory.
_BATCH = 1000


@dataclass(frozen=True)
class Shard:
    """What goes into one database."""

    name: str
    sources: tuple[Source, ...]

    @property
    def database(self) -> str:
        """Name of the database file; fairchem reads a folder in the order of the names."""
        return f"{self.name}.aselmdb"

    @property
    def record(self) -> str:
        """Name of the record file."""
        return f"{self.name}.npz"


@dataclass(frozen=True)
class Record:
    """What is known of a finished shard, in the order of its frames."""

    natoms: np.ndarray  # int32 ``[n_frames]``
    keys: np.ndarray  # uint64 ``[n_frames]``, of the ids (``frame.id_key``)
    counts: np.ndarray  # int64 ``[n_sources]``, frames of each source
    labels: tuple[str, ...]  # that every frame has
    notes: Counter[str]  # how often what the user should know occurred

    def save(self, path: Path) -> None:
        """Atomic write."""
        arrays = {
            "natoms": self.natoms,
            "keys": self.keys,
            "counts": self.counts,
            "labels": np.array(self.labels, dtype=str),
            "notes": np.array(list(self.notes), dtype=str),
            "note_counts": np.array(list(self.notes.values()), dtype=np.int64),
        }
        save_npz(path, arrays, compressed=False)

    @classmethod
    def load(cls, path: Path) -> Record:
        """Read a record; a ValueError says that the file is damaged."""
        try:
            file = read_npz(path)
            notes = Counter(
                dict(zip(file["notes"].tolist(), file["note_counts"].tolist(), strict=True))
            )
            labels = tuple(file["labels"].tolist())
            return cls(file["natoms"], file["keys"], file["counts"], labels, notes)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{path} is damaged ({error}): remove {path.parent.parent} and start again"
            ) from error


def write_shard(shard: Shard, folder: Path, advance: Callable[[int], object]) -> None:
    """Write the database of a shard into ``folder``, and then its record.

    Each appears under its name only when it is whole: the shard is finished once its record is
    there. What a killed process leaves has ``.part`` in its name. ``advance`` is called with the
    number of frames of each batch that was written.
    """
    unfinished = folder / f"{shard.database}.{uuid.uuid4().hex}.part"
    try:
        record = _write_database(shard, unfinished, advance)
        with writing_to(folder):
            os.replace(unfinished, folder / shard.database)
            record.save(folder / shard.record)
    finally:
        unfinished.unlink(missing_ok=True)
        unfinished.with_name(f"{unfinished.name}-lock").unlink(missing_ok=True)


def _write_database(shard: Shard, path: Path, advance: Callable[[int], object]) -> Record:
    natoms: list[int] = []
    keys: list[int] = []
    counts = [0] * len(shard.sources)
    notes: Counter[str] = Counter()
    labels: tuple[str, ...] = ()
    frames = _frames(shard, counts, notes)
    with writing_to(path.parent):
        database = _FreshDatabase(path, use_lock_file=False)
    with closing(database):
        while batch := list(islice(frames, _BATCH)):
            with writing_to(path.parent):
                _write_batch(database, batch)
            labels = batch[0].labels
            natoms += [len(frame.row["numbers"]) for frame in batch]
            keys += [id_key(frame.info) for frame in batch]
            advance(len(batch))
    arrays = np.array(natoms, np.int32), np.array(keys, np.uint64), np.array(counts, np.int64)
    return Record(*arrays, labels, notes)


def _frames(shard: Shard, counts: list[int], notes: Counter[str]) -> Iterator[Frame]:
    """The frames of all sources, checked and counted by source."""
    first = None
    for i, source in enumerate(shard.sources):
        for frame in source.frames(notes):
            check_frame(frame)
            first = first or frame
            refuse_other_labels(frame.where, frame.labels, first.where, first.labels)
            counts[i] += 1
            yield frame
        if counts[i] == 0:
            raise ValueError(f"{source.name} holds no frame: download or make it again")


def refuse_other_labels(
    where: str, labels: tuple[str, ...], first: str, expected: tuple[str, ...]
) -> None:
    """All frames of a data set must have the labels of the first: raise a ValueError if not."""
    if labels != expected:
        found, wanted = (", ".join(names) or "none" for names in (labels, expected))
        raise ValueError(
            f"{where}: its labels are {found}, but those of {first} are {wanted}. All must have "
            "the same"
        )


def _write_batch(database: LMDBDatabase, batch: list[Frame]) -> None:
    # The backend writes into its `txn` where there is one; else it would commit every row.
    database.txn = database.env.begin(write=True)
    for frame in batch:
        digest = hashlib.blake2b(frame_id(frame.info).encode(), digest_size=16)
        # What an ASE database row has besides; a user's name belongs into no data set.
        stamps = {"unique_id": digest.hexdigest(), "ctime": now(), "user": ""}
        database.write(AtomsRow(frame.row | stamps), data=frame.info)
    database.txn.commit()


class _FreshDatabase(LMDBDatabase):
    """A database that is written from its start, once."""

    def _load_ids(self) -> None:
        self.ids = _Consecutive()


class _Consecutive(list):
    """The ids 1, 2, 3, ...: found at once where a list would be searched for every row."""

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and 1 <= number <= len(self)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Say of an error of the operating system or of LMDB where it was and what to do."""
    try:
        yield
    except (OSError, lmdb.Error) as error:
        # LMDB reports a write that stopped halfway, on a full disk, as an input/output error.
        free = shutil.disk_usage(folder).free / 1e6
        raise OSError(
            f"cannot write to {folder}, where {free:,.0f} MB are free: {error}. Make room or "
            "choose another --out; the same command continues where it stopped"
        ) from error
