"""Files as a user gives them in a recipe: one, several, or a glob."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path


def patterns(given: str | tuple[str, ...]) -> tuple[str, ...]:
    """One file or glob, or several, as several."""
    return given if isinstance(given, tuple) else (str(given),)


def given_paths(given: Sequence[str], name: str) -> list[Path]:
    """The paths that patterns stand for, globs in order of name.

    Args:
        given: paths and globs; those without a match of their own are paths as they stand.
        name: of the option, for errors.

    Raises:
        FileNotFoundError: a glob that nothing fits.
    """
    paths = []
    for pattern in given:
        text = str(Path(pattern).expanduser())
        matches = sorted(glob.glob(text)) if glob.has_magic(text) else [text]
        if not matches:
            raise FileNotFoundError(f"{name}={pattern}: no file fits this pattern")
        paths += [Path(match) for match in matches]
    return paths
