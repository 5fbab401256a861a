"""Matrix products that TF32 would round, seen without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode


@contextmanager
def medium_precision() -> Iterator[None]:
    """As on a GPU under TF32: products of float32 may be rounded."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class NarrowProducts(TorchDispatchMode):
    """Collects those of float32 whose factors a GPU would round to TF32."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name, precision = function.overloadpacket.__name__, torch.get_float32_matmul_precision()
        narrow = any(isinstance(t, torch.Tensor) and t.dtype == torch.float32 for t in arguments)
        if name in ("mm", "bmm", "addmm", "baddbmm") and narrow and precision != "highest":
            self.found.append(name)
        return function(*arguments, **(options or {}))
