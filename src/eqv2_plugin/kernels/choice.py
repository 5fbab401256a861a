"""Whether fused kernels can run, and whether they are worth it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from typing import Literal

import torch

from eqv2_plugin.common.tracing import is_recorded, is_traced
from eqv2_plugin.kernels.fused import ODD_CHANNELS, decline, log_kernels
from eqv2_plugin.kernels.interface import Kernels
from eqv2_plugin.kernels.reference import REFERENCE

# Below this many numbers in the node features, starting a kernel (and compiling it once for this
# number of channels) costs more than it gains on a CPU. On a GPU one launch replaces many.
_SMALL = 2**15
_TRITON_DTYPES = (torch.float32, torch.bfloat16)

_enabled = True


def use_fused_kernels(enabled: bool) -> AbstractContextManager[object]:
    """Switch fused kernels on (the default) or off, for the whole process.

    Returns:
        A context manager that switches back at its end. Without ``with``, the setting stays.
    """
    later = ExitStack()
    later.callback(_set_enabled, _enabled)
    _set_enabled(enabled)
    return later


def fused_kernels_enabled() -> bool:
    """Whether `use_fused_kernels` has them on."""
    return _enabled


def _set_enabled(enabled: bool) -> None:
    global _enabled
    _enabled = enabled


use_compiled_kernels = use_fused_kernels  # the name in earlier versions


def compiler_of(device: torch.device) -> Literal["numba", "triton"] | None:
    """What compiles kernels for a device, if it works; None for devices without kernels."""
    if device.type == "cpu":
        return "numba"
    return "triton" if device.type == "cuda" else None


def choose_kernels(wigner: torch.Tensor, num_features: int, channels: int) -> Kernels:
    """The kernels of one forward pass: fused ones where they can run and pay, else torch operators.

    Args:
        wigner: Wigner matrices of the edges; fused kernels pass no gradient to them.
        num_features: numbers in the node features.
        channels: of the node features.
    """
    compiler = compiler_of(wigner.device)
    if compiler == "numba" and is_recorded():
        return _recorded_kernels(wigner.dtype)
    if compiler is None or is_traced() or wigner.requires_grad:
        return REFERENCE
    name = "CPU" if compiler == "numba" else "GPU"
    reason = _reason_against(compiler, wigner.dtype, num_features, channels)
    if reason is not None:
        decline(name, reason)
    elif compiler == "triton" and triton_works(wigner.device):
        from eqv2_plugin.kernels.triton_kernels import TritonKernels

        return TritonKernels()
    elif compiler == "numba" and numba_works():
        from eqv2_plugin.kernels.numba_kernels import NumbaKernels

        return NumbaKernels()
    return REFERENCE


def _recorded_kernels(dtype: torch.dtype) -> Kernels:
    if not _enabled or dtype != torch.float32 or not numba_works():
        return REFERENCE
    from eqv2_plugin.kernels.recorded import RecordedKernels

    return RecordedKernels()


def _reason_against(
    compiler: str, dtype: torch.dtype, num_features: int, channels: int
) -> str | None:
    if not _enabled:
        return "switched off"
    if compiler == "triton":
        autocast = torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda")
        wide = dtype == torch.float32 and autocast in (False, *_TRITON_DTYPES)
        return None if wide else "neither float32 nor bfloat16"
    if num_features < _SMALL:
        return "a small system"
    if dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return "not float32"
    return ODD_CHANNELS if channels % 16 else None


# torch.compile asks when it traces, and must not trace the probe.
@torch.compiler.assume_constant_result
def better_uncompiled(device: torch.device, dtype: torch.dtype, channels: int) -> bool:
    """Whether a model of direct forces gains nothing by torch.compile, unless kernels are off.

    On a CPU where kernels run: compiled instead, the 31M model took 1.8 times as long. On a GPU
    always: kernels, or torch operators in float64, run at once, where compiling took minutes.
    """
    if not _enabled or device.type == "cuda":
        return _enabled
    return device.type == "cpu" and dtype == torch.float32 and channels % 16 == 0 and numba_works()


@cache
def numba_works() -> bool:
    """Whether Numba (which fairchem-core brings) compiles here; logged once."""

    def probe() -> bool:
        from eqv2_plugin.kernels.numba_runtime import compile_kernel

        return compile_kernel(lambda x: x + 1, "probe")(1) == 2

    return _works(probe, "Numba", "CPU")


@cache
def triton_works(device: torch.device) -> bool:
    """Whether Triton (which torch's builds for GPUs bring) compiles for a device; logged once."""

    def probe() -> bool:
        from eqv2_plugin.kernels.triton_kernels import probe as runs

        return runs(device)

    return _works(probe, "Triton", "GPU")


def _works(probe: Callable[[], bool], compiler: str, device: str) -> bool:
    try:
        works = probe()
        reason = ""
    except Exception as error:  # whatever keeps a compiler from working, torch can do the job
        works, reason = False, f" ({compiler} fails: {error})"
    name = f"compiled by {compiler}" if works else f"torch operators{reason}"
    log_kernels(logging.INFO if works else logging.WARNING, device, name)
    return works
