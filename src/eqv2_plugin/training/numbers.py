"""Numbers of a training recipe, checked when it is composed, by the names that users give."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

AUTO = "auto"


@dataclass(frozen=True)
class _Range:
    """What a number may be."""

    words: str
    whole: bool = False
    least: float = -math.inf  # itself allowed
    above: float = -math.inf
    below: float = math.inf
    also: tuple[Any, ...] = ()  # values that are no numbers

    def holds(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return value in self.also and not isinstance(value, bool)
        if self.whole and not isinstance(value, int):
            return False
        return self.least <= value and self.above < value < self.below


_COUNT = _Range("a whole number, 1 or more", whole=True, least=1)
_COUNT_OR_NULL = _Range("a whole number, 1 or more, or null", True, 1, also=(None,))
_NOT_NEGATIVE = _Range("a number, 0 or more", least=0)
RANGES = {
    "epochs": _COUNT,
    "batch_size": _Range("a whole number of structures, 1 or more", True, 1),
    "learning_rate": _Range("a positive number", above=0),
    "weight_decay": _NOT_NEGATIVE,
    "warmup_epochs": _NOT_NEGATIVE,
    "clip_grad_norm": _Range("a positive number, or null for no clipping", above=0, also=(None,)),
    "ema_decay": _Range("between 0 and 1, or null for no average", least=0, below=1, also=(None,)),
    "evaluate_every_n_steps": _COUNT_OR_NULL,
    "checkpoint_every_n_steps": _Range(
        "a whole number of steps, 1 or more, or auto", True, 1, also=(AUTO,)
    ),
    "num_workers": _Range("a whole number, 0 or more", True, 0),
    "energy_coefficient": _NOT_NEGATIVE,
    # Null where such labels are not trained.
    "force_coefficient": _Range("a number, 0 or more", least=0, also=(None,)),
    "stress_coefficient": _Range("a number, 0 or more", least=0, also=(None,)),
    "seed": _Range("a whole number, 0 or more", True, 0),
}


def checked_number(name: str, value: Any) -> Any:
    """``value``, if the number of this name may be that.

    Raises:
        ValueError: it may not; one sentence.
    """
    if not RANGES[name].holds(value):
        shown = "null" if value is None else value
        raise ValueError(f"{name}={shown} must be {RANGES[name].words}")
    return value
