"""A whole conversion: sources into the shards and metadata of one folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from eqv2_plugin.data.conversion.duplicates import check_ids_differ
from eqv2_plugin.data.conversion.folder import OutputFolder, open_output
from eqv2_plugin.data.conversion.frame import Source
from eqv2_plugin.data.conversion.record import Record
from eqv2_plugin.data.conversion.shard import Shard, shown
from eqv2_plugin.data.conversion.workers import write_shards

# fairchem keeps every database of a folder open, and most systems allow 1024 open files.
_MOST_SHARDS = 400
# Raise it when what is written changes, or unfinished folders are continued in two ways.
_LAYOUT = 2


@dataclass(frozen=True)
class Summary:
    """What a conversion did.

    Attributes:
        frames: in the folder.
        shards: databases in the folder.
        finished_before: of these, how many an earlier run had finished.
        labels: that every frame has.
        notes: how often what the user should know occurred.
    """

    frames: int
    shards: int
    finished_before: int
    labels: tuple[str, ...]
    notes: Counter[str]


def convert(
    sources: Sequence[Source], out: Path, options: Mapping[str, Any], workers: int = 1
) -> Summary:
    """Write the frames of all sources, in their order, into a folder that fairchem reads.

    The folder gets ``data.<n>.aselmdb`` files and, last, ``metadata.npz`` with ``natoms`` (int64,
    in the order in which fairchem reads the frames). Nothing of it can be seen before all shards
    are finished. A run that was killed is continued by another with the same arguments; the
    number of workers may differ, and does not change the outcome.

    Args:
        sources: one or more; a shard holds one, or a few consecutive ones if there are many.
        out: folder to make.
        options: that the frames depend on, fit for JSON; a folder begun with others is refused.
        workers: processes.

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
            _write_rest(folder, finished, workers)
        elif len(finished) < len(shards):
            raise ValueError(
                f"{len(shards) - len(finished)} database(s) of {out} are gone since it was made: "
                "remove the folder and begin anew"
            )
        records = [folder.record(shard) for shard in shards]
        if not folder.is_complete:
            _check_together(folder, records)
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
    number = min(len(sources), _MOST_SHARDS)
    edges = np.linspace(0, len(sources), number + 1).astype(int).tolist()
    digits = max(4, len(str(number - 1)))
    return [
        Shard(f"data.{i:0{digits}d}", tuple(sources[start:end]))
        for i, (start, end) in enumerate(pairwise(edges))
    ]


def _write_rest(folder: OutputFolder, finished: Sequence[Shard], workers: int) -> None:
    before = sum(len(folder.record(shard).natoms) for shard in finished)
    rest = [shard for shard in folder.shards if shard not in finished]
    with tqdm(initial=before, unit=" frames", desc=f"{len(folder.shards)} shards") as bar:
        write_shards(rest, folder.work, workers, bar.update)


def _check_together(folder: OutputFolder, records: Sequence[Record]) -> None:
    for shard, record in zip(folder.shards, records, strict=True):
        if record.labels != records[0].labels:
            raise ValueError(
                f"the labels of {shard.sources[0].name} are {shown(record.labels)}, but those of "
                f"{folder.shards[0].sources[0].name} are {shown(records[0].labels)}. All must "
                "have the same"
            )
    databases = [folder.database(shard) for shard in folder.shards]
    check_ids_differ(folder.shards, records, databases)
