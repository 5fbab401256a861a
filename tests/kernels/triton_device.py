"""Where the cases of the Triton kernels run: on a GPU, else in Triton's interpreter."""

from __future__ import annotations

import os

import torch

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")

if not GPU and os.environ.get("TRITON_INTERPRET") != "1":
    raise RuntimeError("without a GPU, set TRITON_INTERPRET=1 before Triton is imported")


def on_device(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Leaves of their own graphs on the device."""
    return [t.to(DEVICE, copy=True).requires_grad_(t.is_floating_point()) for t in tensors]


def assert_one_rounding(found: torch.Tensor, wide: torch.Tensor) -> None:
    """``found`` is ``wide`` in bfloat16; the interpreter cuts digits off instead of rounding."""
    assert found.dtype == torch.bfloat16
    assert ((found.float() - wide).abs() <= 1e-6 + 2**-7 * wide.abs()).all()
