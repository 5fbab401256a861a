"""Compiled kernels on several threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="eqv2-kernel")


def _after_fork() -> None:
    """A forked process has the pools without their threads: work for them would wait for ever.

    OpenMP's are gone as well, and torch's next operator would wait for them; as torch's own loader
    workers do, the process goes on with one thread.
    """
    if _pool.cache_info().currsize:
        _pool.cache_clear()
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def in_parts(work: Callable[[int, int], object], count: int, smallest: int = 1) -> list[object]:
    """``work(start, end)`` on consecutive parts of ``range(count)``, one per torch thread.

    The kernels release Python's lock, so that parts run at the same time.

    Args:
        work: called once per part.
        count: items.
        smallest: items that are worth a thread.

    Returns:
        The results, in the order of the parts.
    """
    parts = max(1, min(torch.get_num_threads(), count // smallest))
    if parts == 1:
        return [work(0, count)]
    ends = [count * part // parts for part in range(parts + 1)]
    futures = [_pool(parts).submit(work, *ends[part : part + 2]) for part in range(1, parts)]
    first = work(*ends[:2])
    return [first, *(future.result() for future in futures)]
