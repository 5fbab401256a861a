"""Linear maps on the fastest matrix product that the machine offers.

torch computes float32 products on an x86 CPU with MKL, which leaves half of the speed of some
processors (AMD's) unused. oneDNN comes with torch, too, behind an operator without derivative;
here it gets one. Everything else (other dtypes and devices, autocast, torch.compile, small
products) goes to torch as usual.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from eqv2_plugin.common.tracing import is_traced

# Multiplications below which calling oneDNN costs more than it gains.
_SMALL = 2**21
# Columns of two factors (half their harmonic mean) below which copies of both cost more than oneDNN
# gains, even where it is twice as fast as torch's own product.
_NARROW = 128

_Operator = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


def linear(
    features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """``features @ weight.T + bias``, as `torch.nn.functional.linear`.

    Args:
        features: [..., K].
        weight: [N, K].
        bias: [N] or None.

    Returns:
        [..., N]; differentiable any number of times.
    """
    if not fits_onednn(features, weight):
        return nn.functional.linear(features, weight, bias)
    rows = features.reshape(-1, features.shape[-1])
    given = (features, weight) if bias is None else (features, weight, bias)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given):
        out = _Product.apply(rows, weight, bias)
    else:
        out = product(rows, weight, bias)
    return out.view(*features.shape[:-1], weight.shape[0])


def reduced_precision(device: torch.device) -> bool:
    """Whether products on a GPU run on tensor cores, in TF32 or under autocast."""
    if device.type != "cuda" or is_traced():
        return False
    return torch.is_autocast_enabled("cuda") or torch.get_float32_matmul_precision() != "highest"


def apply_linear(layer: nn.Linear, features: torch.Tensor) -> torch.Tensor:
    """The layer on `linear`."""
    return linear(features, layer.weight, layer.bias)


def product(
    left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """``left @ right.T + bias`` of matrices, without derivative."""
    if not fits_onednn(left, right):
        return nn.functional.linear(left, right, bias)
    # Anything strided would take oneDNN's slow reference code.
    return onednn_linear()(left.contiguous(), right.contiguous(), bias)


def fits_onednn(features: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether `linear` of [..., K] features and an [N, K] weight goes to oneDNN."""
    if is_traced():
        return False
    rows = features.numel() // max(weight.shape[1], 1)
    return (
        0 < rows * weight.numel() >= _SMALL
        and features.device.type == "cpu"
        and features.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and onednn_linear() is not None
    )


class _Product(torch.autograd.Function):
    """``left @ right.T + bias``; the derivatives are products, too."""

    @staticmethod
    def forward(ctx, left, right, bias):
        ctx.save_for_backward(left, right)
        return onednn_linear()(left.contiguous(), right.contiguous(), bias)

    @staticmethod
    def backward(ctx, gradient):
        left, right = ctx.saved_tensors
        of_left = of_right = of_bias = None
        if ctx.needs_input_grad[0]:
            of_left = linear(gradient, right.T)
        if ctx.needs_input_grad[1]:
            of_right = _transposed_product(gradient, left)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(dim=0)
        return of_left, of_right, of_bias


def _transposed_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """``left.T @ right`` of two with many rows, the gradient of a weight."""
    one, other = left.shape[1], right.shape[1]
    # oneDNN takes transposed copies, which cost more than a narrow product does.
    if one * other < _NARROW * (one + other):
        return left.T @ right
    return linear(left.T, right.T)


@cache
def onednn_linear() -> _Operator | None:
    """oneDNN's linear operator, or None where this build has none that computes right."""
    try:
        raw = torch.ops.mkldnn._linear_pointwise
        with torch.no_grad():
            generator = torch.Generator().manual_seed(0)
            left, right = (
                torch.randn(n, 96, generator=generator, dtype=torch.float32, device="cpu")
                for n in (64, 128)
            )
            found = raw(left, right, right[:, 0].contiguous(), "none", [], "")
            wanted = nn.functional.linear(left, right, right[:, 0])
            correct = torch.allclose(found, wanted, rtol=1e-4, atol=1e-4)
    except (AttributeError, RuntimeError):
        correct = False
    name = "oneDNN" if correct else "torch's own (no oneDNN operator)"
    logging.getLogger(__name__).info("matrix products on the CPU: %s", name)
    if not correct:
        return None
    return lambda left, right, bias: raw(left, right, bias, "none", [], "")
