"""Frames whose ids occur more than once, found with eight bytes a frame."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from ase_db_backends.aselmdb import LMDBDatabase

from eqv2_plugin.data.conversion.frame import frame_id
from eqv2_plugin.data.conversion.record import Record
from eqv2_plugin.data.conversion.shard import Shard


def check_ids_differ(
    shards: Sequence[Shard], records: Sequence[Record], databases: Sequence[Path]
) -> None:
    """No two frames may have the same id.

    Args:
        shards: with the names of the sources.
        records: of the shards, with the keys of the ids.
        databases: of the shards; read only if two keys agree.

    Raises:
        ValueError: names two frames with the same id.
    """
    keys = np.concatenate([record.keys for record in records])
    keys.sort()
    suspects = np.unique(keys[1:][keys[1:] == keys[:-1]])
    if suspects.size == 0:
        return
    # Keys of different ids may agree, so the ids themselves decide.
    seen: dict[str, str] = {}
    for shard, record, path in zip(shards, records, databases, strict=True):
        rows = np.flatnonzero(np.isin(record.keys, suspects))
        if rows.size == 0:
            continue
        with closing(LMDBDatabase(path, readonly=True, use_lock_file=False)) as database:
            for row in rows.tolist():
                where = _where(shard, record, row)
                name = frame_id(database.get(id=row + 1).data)
                if name in seen:
                    raise ValueError(
                        f"two frames have the id {name}: {seen[name]}, and {where}. Leave one of "
                        "them out, or give them different sids"
                    )
                seen[name] = where


def _where(shard: Shard, record: Record, row: int) -> str:
    ends = np.cumsum(record.counts)
    source = int(np.searchsorted(ends, row, side="right"))
    return f"{shard.sources[source].name}, frame {row - (ends[source] - record.counts[source])}"
