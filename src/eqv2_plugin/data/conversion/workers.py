"""Writing shards in several processes that end when the command ends, however it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.sharedctypes import RawValue, Value
from pathlib import Path
from typing import Any

from eqv2_plugin.common.orphans import end_with_parent
from eqv2_plugin.data.conversion.shard import Shard, write_shard

_POLL_SECONDS = 0.3


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
    """Write the shards into ``folder``, by ``workers`` processes, or here if it is one.

    Raises:
        ValueError: a source is damaged or holds what must not go in.
        OSError: a file cannot be read or written.
        RuntimeError: a worker was killed.
    """
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
            "a worker process was killed, perhaps for want of memory. The same command continues "
            "where it stopped; give it fewer --workers"
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
