"""What fairchem-core 1.10 imports and a machine may not have, for its forward and backward passes.

No build of torch-scatter fits every torch; sums by index are torch's own operators, too.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch


def install_substitutes() -> None:
    """Put modules in the place of torch_scatter and wandb where they are not installed."""
    for name, functions in (("torch_scatter", {"scatter": _scatter}), ("wandb", {"run": None})):
        if importlib.util.find_spec(name) is None:
            module = ModuleType(name)
            module.__spec__ = ModuleSpec(name, None)
            vars(module).update(functions)
            sys.modules[name] = module


def _scatter(
    src: torch.Tensor,
    index: torch.Tensor,
    dim: int = -1,
    out: torch.Tensor | None = None,
    dim_size: int | None = None,
    reduce: str = "sum",
) -> torch.Tensor:
    """torch_scatter's function of this name, of a one-dimensional index.

    Raises:
        NotImplementedError: another use than EquiformerV2's.
    """
    if out is not None or index.dim() != 1 or reduce not in ("sum", "add", "mean"):
        raise NotImplementedError(f"scatter of {index.dim()}-dimensional indices by {reduce}")
    size = int(index.max()) + 1 if dim_size is None else dim_size
    dim = dim % src.dim()
    total = src.new_zeros(*src.shape[:dim], size, *src.shape[dim + 1 :]).index_add(dim, index, src)
    if reduce != "mean":
        return total
    counts = torch.bincount(index, minlength=size).clamp(min=1).to(src.dtype)
    return total / counts.view(-1, *(1,) * (src.dim() - dim - 1))
