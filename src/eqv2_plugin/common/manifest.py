"""What the contents of a folder were made with: a run that goes on with them must match it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eqv2_plugin.common.files import save_json

_SHOWN = 5
_RENAME = "give the new one another name (run_name=NAME), or remove that folder"


def begin(
    path: Path, made_with: Mapping[str, Any], folder: Path, holds: str, advice: str = _RENAME
) -> None:
    """Write a manifest, or see that the one that is there says the same.

    Args:
        path: of the manifest, a JSON file.
        made_with: what the contents depend on, fit for JSON.
        folder, holds, advice: see `refuse_other`.

    Raises:
        ValueError: it says something else, or is damaged.
    """
    if path.exists():
        refuse_other(read_manifest(path, folder), made_with, folder, holds, advice)
    else:
        save_json(path, made_with)


def read_manifest(path: Path, folder: Path | None = None) -> dict[str, Any]:
    """What `begin` wrote; a damaged one asks to remove ``folder``, by default that it lies in."""
    if not path.exists():
        raise FileNotFoundError(f"nothing was begun in {path.parent}: there is no {path.name}")
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove {folder or path.parent} and start again"
        ) from error


def refuse_other(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    folder: Path,
    holds: str,
    advice: str = _RENAME,
) -> None:
    """A ValueError with the first differences if what is there was not made with the same.

    ``folder``, ``holds`` and ``advice`` are for the message "<folder> holds <holds> made with
    something else (<differences>): <advice>".
    """
    if changed := differences(before, now):
        raise ValueError(
            f"{folder} holds {holds} made with something else ({'; '.join(changed[:_SHOWN])}): "
            f"{advice}"
        )


def differences(before: Any, now: Any) -> list[str]:
    """ "a.b: 1 -> 2" of every value that is not the same after a way through JSON."""
    first, second = (_flattened(json.loads(json.dumps(one))) for one in (before, now))
    return [
        f"{key}: {first.get(key)} -> {second.get(key)}"
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    ]


def _flattened(value: Any, prefix: str = "") -> dict[str, Any]:
    """Values with dotted keys."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    inner = ((f"{prefix}.{key}" if prefix else str(key), value[key]) for key in value)
    return {k: v for name, part in inner for k, v in _flattened(part, name).items()}
