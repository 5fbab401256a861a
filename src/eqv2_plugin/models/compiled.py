"""torch.compile where a preset of fairchem's asks for it, and what it costs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import torch


class Compiled:
    """A function that torch compiles at its first call, for sizes of any kind; both are said.

    Args:
        function: of which the first call compiles, and later ones do not.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        # As fairchem's predict unit sets them where it compiles: the model has few, fixed floats.
        torch._dynamo.config.recompile_limit = 32
        torch._dynamo.config.specialize_float = True
        self._function = torch.compile(function, dynamic=True)
        self._used = False

    def __call__(self, *arguments: Any) -> Any:
        if self._used:
            return self._function(*arguments)
        log = logging.getLogger(__name__)
        log.warning(
            "torch compiles this model at its first call, which may take minutes; "
            "inference_settings='batch' does without"
        )
        start = time.perf_counter()
        found = self._function(*arguments)
        self._used = True
        log.warning(
            "compiled in %.0f s; structures of other sizes do not compile again",
            time.perf_counter() - start,
        )
        return found
