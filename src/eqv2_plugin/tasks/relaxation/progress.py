"""The progress bar of a relaxation job."""

from __future__ import annotations

import sys

from fairchem.core.common import distutils
from tqdm import tqdm

# Where lines are kept (a log), no bar.
_LINE = "{percentage:3.0f}% {n_fmt}/{total_fmt} structures [{elapsed}<{remaining}{postfix}]"


class Progress:
    """A bar of finished structures, with optimizer steps per second; on the first rank only.

    Args:
        total: structures of this process.
        initial: those that were finished before.
    """

    def __init__(self, total: int, initial: int) -> None:
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            total=total,
            initial=initial,
            unit="structure",
            miniters=0,
            mininterval=0.5 if terminal else 15.0,
            dynamic_ncols=terminal,
            bar_format=None if terminal else _LINE,
            disable=not distutils.is_master(),
        )
        self._steps = 0

    def step(self, structures: int) -> None:
        """One model call for so many structures was made."""
        self._steps += structures
        elapsed = 0.0 if self._bar.disable else self._bar.format_dict["elapsed"]
        if elapsed:
            self._bar.set_postfix_str(f"{self._steps / elapsed:.1f} steps/s", refresh=False)
            self._bar.update(0)

    def finish(self) -> None:
        """One structure has finished."""
        self._bar.update(1)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()
