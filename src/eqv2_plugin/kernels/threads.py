"""Compiled kernels on several threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="eqv2-kernel")


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
