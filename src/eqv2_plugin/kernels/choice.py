"""Whether compiled kernels can run, and whether they are worth it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from typing import Literal

import torch

# Below this many numbers in the edge features, starting a kernel (and compiling it once for this
# number of channels) costs more than it gains on a CPU. On a GPU one launch replaces many.
_SMALL = 2**15
_TRITON_DTYPES = (torch.float32, torch.bfloat16)

_enabled = True


def use_compiled_kernels(enabled: bool) -> AbstractContextManager[object]:
    """Switch compiled kernels on (the default) or off, for the whole process.

    Returns:
        A context manager that switches back at its end. Without ``with``, the setting stays.
    """
    global _enabled

    def switch_back(before: bool) -> None:
        global _enabled
        _enabled = before

    later = ExitStack()
    later.callback(switch_back, _enabled)
    _enabled = enabled
    return later


def compiler_of(device: torch.device) -> Literal["numba", "triton"] | None:
    """What compiles kernels for a device, if it works; None for devices without kernels."""
    if device.type == "cpu":
        return "numba"
    return "triton" if device.type == "cuda" else None


def may_compile(wigner: torch.Tensor) -> bool:
    """Whether kernels could use these Wigner matrices; they pass no gradient to positions."""
    return (
        _enabled
        and compiler_of(wigner.device) is not None
        and wigner.dtype == torch.float32
        and not wigner.requires_grad
        and not torch.compiler.is_compiling()
    )


def can_compile(*tensors: torch.Tensor) -> bool:
    """Whether these tensors can go to compiled kernels, by Numba on a CPU or Triton on a GPU.

    Args:
        tensors: features whose last dimension is the channels, on one device; on a CPU the first
            one's size decides.
    """
    if not _enabled or torch.compiler.is_compiling():
        return False
    compiler = compiler_of(tensors[0].device)
    if compiler == "triton":
        return all(t.dtype in _TRITON_DTYPES for t in tensors) and triton_works(tensors[0].device)
    return (
        compiler == "numba"
        and tensors[0].numel() >= _SMALL
        and all(t.dtype == torch.float32 and t.shape[-1] % 16 == 0 for t in tensors)
        and not torch.is_autocast_enabled("cpu")
        and numba_works()
    )


@cache
def numba_works() -> bool:
    """Whether Numba (which fairchem-core brings) compiles here; logged once."""

    def probe() -> bool:
        from numba import njit

        return njit(lambda x: x + 1)(1) == 2

    return _works(probe, "Numba", "CPU")


@cache
def triton_works(device: torch.device) -> bool:
    """Whether Triton (which torch's builds for GPUs bring) compiles for a device; logged once."""

    def probe() -> bool:
        from eqv2_plugin.kernels import triton_common

        return triton_common.probe(device)

    return _works(probe, "Triton", "GPU")


def _works(probe: Callable[[], bool], compiler: str, device: str) -> bool:
    try:
        works = probe()
        reason = ""
    except Exception as error:  # whatever keeps a compiler from working, torch can do the job
        works, reason = False, f" ({compiler} fails: {error})"
    name = f"compiled by {compiler}" if works else f"torch operators{reason}"
    logging.getLogger(__name__).info("attention kernels on the %s: %s", device, name)
    return works
