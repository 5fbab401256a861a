"""What users are told: lists of names, tables, and lines that one process prints."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache

from fairchem.core.common import distutils


def listed(names: Sequence[str], shown: int = 5) -> str:
    """ "a, b, c, d, e and 12 more"."""
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, the first one to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


@cache
def warn_once(message: str) -> None:
    """Log a warning, once per process: fairchem's level for what nobody should overlook."""
    logging.getLogger("eqv2_plugin").warning(message)


def say(message: str) -> None:
    """Print on the first rank only."""
    if distutils.is_master():
        print(message, flush=True)
