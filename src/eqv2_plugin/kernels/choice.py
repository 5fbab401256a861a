"""Whether compiled kernels can run, and whether they are worth it."""

from __future__ import annotations

import logging
from functools import cache

import torch

# Below this many numbers in the edge features, starting a kernel (and compiling it once for this
# number of channels) costs more than it gains.
_SMALL = 2**15


@cache
def numba_works() -> bool:
    """Whether Numba (which fairchem-core brings) compiles here; logged once."""
    try:
        from numba import njit

        works = njit(lambda x: x + 1)(1) == 2
        reason = ""
    except Exception as error:  # whatever keeps a compiler from working, torch can do the job
        works, reason = False, f" (Numba fails: {error})"
    name = "compiled by Numba" if works else f"torch operators{reason}"
    logging.getLogger(__name__).info("attention kernels on the CPU: %s", name)
    return works


def can_compile(*tensors: torch.Tensor) -> bool:
    """Whether these tensors can go to the compiled CPU kernels.

    Args:
        tensors: features whose last dimension is the channels; the first one's size decides.
    """
    return (
        not torch.compiler.is_compiling()
        and tensors[0].numel() >= _SMALL
        and all(
            t.device.type == "cpu" and t.dtype == torch.float32 and t.shape[-1] % 16 == 0
            for t in tensors
        )
        and not torch.is_autocast_enabled("cpu")
        and numba_works()
    )
