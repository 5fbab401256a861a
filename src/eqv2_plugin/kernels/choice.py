"""Whether compiled kernels can run, and whether they are worth it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from typing import Literal

import torch

# Below this many numbers in the node features, starting a kernel (and compiling it once for this
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
    if torch.compiler.is_compiling():
        return False
    device = tensors[0].device
    compiler = compiler_of(device)
    if compiler is None:
        return False
    name = "CPU" if compiler == "numba" else "GPU"
    if not _enabled:
        return decline(name, "switched off")
    if compiler == "triton":
        if not all(t.dtype in _TRITON_DTYPES for t in tensors):
            return decline(name, "neither float32 nor bfloat16")
        return triton_works(device)
    if tensors[0].numel() < _SMALL:
        return decline(name, "a small system")
    if torch.is_autocast_enabled("cpu") or any(t.dtype != torch.float32 for t in tensors):
        return decline(name, "not float32")
    if any(t.shape[-1] % 16 for t in tensors):
        return decline(name, "channels that are no multiple of 16")
    return numba_works()


@cache
def decline(device: str, reason: str) -> Literal[False]:
    """Say once why kernels do not run on a device, "CPU" or "GPU"."""
    _log(logging.INFO, device, f"torch operators ({reason})")
    return False


# torch.compile asks when it traces, and must not trace the probe.
@torch.compiler.assume_constant_result
def cpu_kernels_available() -> bool:
    """Whether kernels run on a CPU where tensors fit: not switched off, and Numba works."""
    return _enabled and numba_works()


@cache
def numba_works() -> bool:
    """Whether Numba (which fairchem-core brings) compiles here; logged once."""

    def probe() -> bool:
        from eqv2_plugin.kernels.compilation import compile_kernel

        return compile_kernel(lambda x: x + 1, "probe")(1) == 2

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
    _log(logging.INFO if works else logging.WARNING, device, name)
    return works


def _log(level: int, device: str, what: str) -> None:
    logging.getLogger(__name__).log(level, "attention kernels on the %s: %s", device, what)
