"""Bars of progress: on a terminal they move, in a log they are lines, few of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from fairchem.core.common import distutils
from tqdm import tqdm

Item = TypeVar("Item")
LOG_SECONDS = 15.0  # between two lines of a log
_LINE = "{desc}{percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


def bar(total: int, unit: str, seconds: float = 0.5, **options: Any) -> tqdm:
    """A bar on the first rank.

    Args:
        total: what it ends with.
        unit: of which it counts.
        seconds: between two changes on a terminal.
        options: of tqdm.
    """
    terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        unit=unit,
        mininterval=seconds if terminal else LOG_SECONDS,
        dynamic_ncols=terminal,
        bar_format=None if terminal else _LINE,
        disable=not distutils.is_master(),
        **options,
    )


def passing_bar(total: int, unit: str, what: str) -> tqdm:
    """One for something short: it appears after a while, and goes when it is closed."""
    delay = 1.0 if sys.stderr.isatty() else LOG_SECONDS
    return bar(total, unit, desc=what, leave=False, delay=delay)


def short_bar(items: Iterable[Item], what: str) -> Iterable[Item]:
    """Pass through ``items`` (with a length) under such a bar."""
    with passing_bar(len(items), "batch", what) as shown:  # type: ignore[arg-type]
        for item in items:
            yield item
            shown.update(1)
