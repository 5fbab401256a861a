"""Geometry in full precision where the model's products are not.

TF32 (and bfloat16 on a CPU, by the same switch of torch) rounds the factors of float32 products to
some three digits. For features that is a choice; for where atoms are it would be an error of 0.01 Å
in a cell of 10 Å, and Wigner matrices that are no rotations.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# Settings under which float32 products are those of float32. On a CPU, "high" is what presets for
# GPUs leave behind.
_WHOLE = {"cpu": ("highest", "high"), "cuda": ("highest",)}


@torch.compiler.assume_constant_result
def exact_dtype(dtype: torch.dtype, device_type: str) -> torch.dtype:
    """The dtype in which products of numbers of this dtype lose none of its digits."""
    precision = torch.get_float32_matmul_precision()
    whole = precision in _WHOLE.get(device_type, ("highest",))
    return dtype if whole or dtype != torch.float32 else torch.float64


def exact_einsum(equation: str, *operands: torch.Tensor) -> torch.Tensor:
    """``torch.einsum`` in `exact_dtype`; operands and result have one dtype."""
    dtype = operands[0].dtype
    exact = exact_dtype(dtype, operands[0].device.type)
    if exact == dtype:
        return torch.einsum(equation, *operands)
    return torch.einsum(equation, *(operand.to(exact) for operand in operands)).to(dtype)


@contextmanager
def whole_products() -> Iterator[None]:
    """Products of float32 as such, for code without derivative and not traced; also fairchem's."""
    before = torch.get_float32_matmul_precision()
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
