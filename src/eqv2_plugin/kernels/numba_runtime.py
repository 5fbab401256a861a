"""Compiling loops with Numba, its cache on disk made safe, and running them on several threads."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from llvmlite.binding import get_host_cpu_name
from numba import njit

OPTIONS: dict[str, Any] = {"fastmath": True, "error_model": "numpy", "nogil": True}


def compile_kernel(loops: Callable[..., Any], name: str, *constants: int) -> Any:
    """Loops compiled at their first call; later processes read the result from disk.

    Numba keeps an index file per function name, which processes that compile at the same time
    write without a lock: one could file its code under another's constants, or that for another
    processor where a cluster shares the folder. A name that holds both gives each its own index.

    Args:
        loops: called with one set of types only.
        name: of the kernel.
        constants: values of the variables that the loops close over.
    """
    loops.__qualname__ = "_".join([name, *map(str, constants), get_host_cpu_name()])
    try:
        return njit(cache=True, **OPTIONS)(loops)
    except RuntimeError as error:  # no folder that may be written to
        _say_once(str(error))
        return njit(**OPTIONS)(loops)


@cache
def _say_once(reason: str) -> None:
    logging.getLogger(__name__).warning(
        "fused kernels are not kept on disk, so every process compiles them again (%s): set "
        "NUMBA_CACHE_DIR to a folder that can be written to",
        reason,
    )


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
