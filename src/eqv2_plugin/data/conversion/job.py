"""A whole conversion: sources into the shards and metadata of one folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.sharedctypes import RawValue, Value
from pathlib import Path
from typing import Any

import numpy as np
from ase_db_backends.aselmdb import LMDBDatabase
from tqdm import tqdm

from eqv2_plugin.common.orphans import end_with_parent
from eqv2_plugin.data.conversion.folder import OutputFolder, open_output
from eqv2_plugin.data.conversion.frame import Source, frame_id
from eqv2_plugin.data.conversion.shard import Record, Shard, refuse_other_labels, write_shard

# fairchem keeps every database of a folder open, and most systems allow 1024 open files.
_MAX_SHARDS = 400
# Raise it when what is written changes, or unfinished folders are continued in two ways.
_LAYOUT = 2
_POLL_SECONDS = 0.3


@dataclass(frozen=True)
class Summary:
    """What a conversion did."""

    frames: int  # in the folder
    shards: int  # databases in the folder
    finished_before: int  # of these, how many an earlier run had finished
    labels: tuple[str, ...]  # that every frame has
    notes: Counter[str]  # how often what the user should know occurred


def convert(
    sources: Sequence[Source], out: Path, options: Mapping[str, Any], workers: int = 1
) -> Summary:
    """Write the frames of all sources, in their order, into a folder that fairchem reads.

    The folder gets ``data.<n>.aselmdb`` files and, last, ``metadata.npz`` with ``natoms`` (int64,
    in the order in which fairchem reads the frames). Nothing of it can be seen before all shards
    are finished. A run that was killed is continued by another with the same arguments; the
    number of workers may differ, and does not change the outcome.

    Args:
        sources: a shard holds one, or a few consecutive ones if there are many.
        options: that the frames depend on, fit for JSON; a folder begun with others is refused.

    Raises:
        ValueError: a source is damaged or holds what must not go in, two frames have the same
            id, or the folder holds something else.
        OSError: a file cannot be read or written.
        RuntimeError: another run writes there, or a worker was killed.
    """
    shards = plan_shards(sources)
    begun_with = {
        "layout": _LAYOUT,
        "options": dict(options),
        "files": {str(f.resolve()): f.stat().st_size for s in sources for f in s.files},
        "number of shards": len(shards),
    }
    with open_output(out, shards, begun_with) as folder:
        finished = [shard for shard in shards if folder.is_finished(shard)]
        if not folder.is_complete:
            before = sum(len(folder.record(shard).natoms) for shard in finished)
            rest = [shard for shard in shards if shard not in finished]
            with tqdm(initial=before, unit=" frames", desc=f"{len(shards)} shards") as bar:
                write_shards(rest, folder.work, workers, bar.update)
        elif len(finished) < len(shards):
            raise ValueError(
                f"{len(shards) - len(finished)} database(s) of {out} are gone since it was made: "
                "remove the folder and start again"
            )
        records = [folder.record(shard) for shard in shards]
        if not folder.is_complete:
            first = shards[0].sources[0].name
            for shard, record in zip(shards, records, strict=True):
                name = shard.sources[0].name
                refuse_other_labels(name, record.labels, first, records[0].labels)
            _check_ids_differ(folder, records)
            folder.publish(records)
    return Summary(
        frames=sum(len(record.natoms) for record in records),
        shards=len(shards),
        finished_before=len(finished),
        labels=records[0].labels,
        notes=sum((record.notes for record in records), Counter()),
    )


def plan_shards(sources: Sequence[Source]) -> list[Shard]:
    """Spread consecutive sources evenly over at most 400 shards."""
    number = min(len(sources), _MAX_SHARDS)
    edges = np.linspace(0, len(sources), number + 1).astype(int).tolist()
    digits = max(4, len(str(number - 1)))
    return [
        Shard(f"data.{i:0{digits}d}", tuple(sources[start:end]))
        for i, (start, end) in enumerate(pairwise(edges))
    ]


def _check_ids_differ(folder: OutputFolder, records: Sequence[Record]) -> None:
    """No two frames may have the same id; found with eight bytes a frame."""
    keys = np.concatenate([record.keys for record in records])
    keys.sort()
    suspects = np.unique(keys[1:][keys[1:] == keys[:-1]])
    # Keys of different ids may agree, so the ids themselves decide.
    seen: dict[str, str] = {}
    for shard, record in zip(folder.shards, records, strict=True):
        rows = np.flatnonzero(np.isin(record.keys, suspects)).tolist()
        if not rows:
            continue
        path, ends = folder.database(shard), np.cumsum(record.counts)
        with closing(LMDBDatabase(path, readonly=True, use_lock_file=False)) as database:
            for row in rows:
                number = int(np.searchsorted(ends, row, side="right"))
                frame = row - (ends[number] - record.counts[number])
                where = f"{shard.sources[number].name}, frame {frame}"
                name = frame_id(database.get(id=row + 1).data)
                if name in seen:
                    raise ValueError(
                        f"two frames have the id {name}: {seen[name]}, and {where}. Leave one of "
                        "them out, or give them different sids"
                    )
                seen[name] = where


class _Shared:
    """What the processes share: the number of frames written, and whether to stop."""

    def __init__(self) -> None:
        self.frames: Any = Value("q", 0)
        self.stop: Any = RawValue("b", 0)

    def advance(self, frames: int) -> None:
        with self.frames.get_lock():
            self.frames.value += frames
        if self.stop.value:
            raise RuntimeError("another worker failed")


_shared: _Shared


def write_shards(
    shards: Sequence[Shard], folder: Path, workers: int, advance: Callable[[int], object]
) -> None:
    """Write the shards into ``folder``, here or by processes that end when this one does."""
    if workers == 1 or len(shards) <= 1:
        for shard in shards:
            write_shard(shard, folder, advance)
        return
    shared = _Shared()
    pool = ProcessPoolExecutor(
        min(workers, len(shards)), initializer=_begin_worker, initargs=(shared,)
    )
    try:
        pending = {pool.submit(_write, shard, folder) for shard in shards}
        seen = 0
        while pending:
            done, pending = wait(pending, _POLL_SECONDS, FIRST_EXCEPTION)
            # Without the lock: a worker that was killed may hold it for ever.
            written = shared.frames.get_obj().value
            advance(written - seen)
            seen = written
            for future in done:
                future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process was killed, perhaps because memory ran out. The same command "
            "continues where it stopped; give it fewer --workers"
        ) from error
    finally:
        shared.stop.value = 1
        pool.shutdown(cancel_futures=True)


def _begin_worker(shared: _Shared) -> None:
    global _shared
    _shared = shared
    end_with_parent()


def _write(shard: Shard, folder: Path) -> None:
    write_shard(shard, folder, _shared.advance)
