"""The option ``compile`` of recipes: true, false, or auto."""

from __future__ import annotations

from typing import Literal

from torch import nn

CompileMode = bool | Literal["auto"]

# Parameters beyond which a pass on few atoms is bound by arithmetic, not by operators.
_SMALL = 1_000_000


def checked_mode(mode: CompileMode) -> CompileMode:
    """The mode; raises a ValueError for any other."""
    if mode not in (True, False, "auto"):
        raise ValueError(f"compile must be true, false or auto, got {mode!r}")
    return mode


def pays(model: nn.Module, steps: int, least_steps: int) -> bool:
    """Whether so many steps of a model are compiled under "auto": many, small and conservative.

    Args:
        model: an `EquiformerV2`.
        steps: of the whole run, so that a resumed one decides alike.
        least_steps: that earn what compiling takes.
    """
    size = sum(parameter.numel() for parameter in model.parameters())
    conservative = bool(model.backbone.is_conservative)  # type: ignore[union-attr]
    return steps >= least_steps and size <= _SMALL and conservative
