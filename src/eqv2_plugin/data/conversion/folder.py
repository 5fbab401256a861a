"""The folder that a conversion fills: what it was begun with, what is finished, what is whole.

A shard and its record lie in a hidden folder until all are finished; fairchem, which reads every
database in a folder, cannot take some of them for all. ``metadata.npz`` comes last.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from eqv2_plugin.common.files import save_npz
from eqv2_plugin.common.locks import folder_lock
from eqv2_plugin.common.manifest import begin
from eqv2_plugin.common.text import listed
from eqv2_plugin.data.conversion.shard import Record, Shard, writing_to

METADATA = "metadata.npz"
# Hidden, or fairchem would try to read what is in it.
_WORK = ".conversion"
_MANIFEST = "manifest.json"


class OutputFolder:
    """The folder of one conversion, opened by ``open_output``."""

    def __init__(self, path: Path, shards: Sequence[Shard]) -> None:
        self.path = path
        self.work = path / _WORK
        self.shards = shards

    @property
    def is_complete(self) -> bool:
        """Whether all is done."""
        return (self.path / METADATA).is_file()

    def is_finished(self, shard: Shard) -> bool:
        """Whether the shard is written and recorded."""
        return (self.work / shard.record).is_file() and self.database(shard).is_file()

    def database(self, shard: Shard) -> Path:
        """Where the database of a shard is now."""
        published = self.path / shard.database
        return published if published.is_file() else self.work / shard.database

    def record(self, shard: Shard) -> Record:
        """The record of a finished shard."""
        return Record.load(self.work / shard.record)

    def publish(self, records: Sequence[Record]) -> None:
        """Put all databases in place, and then ``metadata.npz`` with ``natoms``."""
        natoms = np.concatenate([record.natoms for record in records], dtype=np.int64)
        with writing_to(self.path):
            for shard in self.shards:
                os.replace(self.database(shard), self.path / shard.database)
            save_npz(self.work / METADATA, {"natoms": natoms}, compressed=False)
            os.replace(self.work / METADATA, self.path / METADATA)


@contextmanager
def open_output(
    path: Path, shards: Sequence[Shard], begun_with: Mapping[str, Any]
) -> Iterator[OutputFolder]:
    """Make the folder, or go on with it if it was begun with the same sources and options.

    ``begun_with``, fit for JSON, tells this conversion from others.

    Raises:
        ValueError: the folder holds something else, or another conversion.
        RuntimeError: another run is writing there now.
    """
    folder = OutputFolder(path, shards)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file: choose another --out")
    _refuse_strangers(folder)
    folder.work.mkdir(parents=True, exist_ok=True)
    # Workers hold the lock, too: those of a killed run until they notice.
    with folder_lock(path, name=f"{_WORK}/lock", children_hold=True):
        advice = "choose another --out, or remove the folder"
        begin(folder.work / _MANIFEST, begun_with, path, "a conversion", advice)
        for unfinished in folder.work.glob("*.part*"):  # of a killed run
            unfinished.unlink(missing_ok=True)
        yield folder


def _refuse_strangers(folder: OutputFolder) -> None:
    """fairchem would read any other database in the folder, too."""
    if not folder.path.exists():
        return
    ours = set()
    if (folder.work / _MANIFEST).is_file():
        ours = {METADATA, *(shard.database for shard in folder.shards)}
    names = {path.name for path in folder.path.iterdir() if path.name[0] != "."}
    if strangers := sorted(names - ours):
        raise ValueError(
            f"{folder.path} holds something else ({listed(strangers, 3)}): choose another --out, "
            "or remove it"
        )
