"""Constant tensors that keep their precision when a module changes dtype."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn


class ExactConstants(nn.Module):
    """A module whose constants are derived from float64 whenever it is moved or cast.

    An ordinary buffer that was built in float32 keeps its rounding when the module is
    later cast to float64; forces then differ at the 1e-7 level. The constants here are
    not part of the state dict: they follow from the configuration.
    """

    def __init__(self) -> None:
        super().__init__()
        self._exact: dict[str, np.ndarray] = {}

    def register_constant(self, name: str, value: np.ndarray) -> None:
        """Make ``value`` (float64) available as attribute ``name`` in the module's dtype."""
        self._exact[name] = np.asarray(value, dtype=np.float64)
        tensor = torch.tensor(self._exact[name], dtype=torch.get_default_dtype())
        self.register_buffer(name, tensor, persistent=False)

    def _apply(self, fn: Callable, recurse: bool = True) -> nn.Module:
        super()._apply(fn, recurse)
        for name, value in self._exact.items():
            moved = getattr(self, name)
            if not moved.is_meta:
                setattr(self, name, torch.from_numpy(value).to(moved.device, moved.dtype))
        return self
