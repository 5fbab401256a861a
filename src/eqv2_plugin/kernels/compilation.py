"""Numba's compiler for the loops on CPUs, with its cache on disk made safe."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

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
        "compiled kernels are not kept on disk, so every process compiles them again (%s): set "
        "NUMBA_CACHE_DIR to a folder that can be written to",
        reason,
    )
