"""What a job left for its user, in a form that can be compared."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch

# Times and the place of a run belong to no result.
_TIMES = {"seconds", "time", "wall_time", "ctime", "mtime", "created", "date", "steps_per_second"}


def results(folder: Path, place: Path) -> dict[str, Any]:
    """{path: content} of all files below ``place``, hidden ones too.

    Args:
        folder: of the run; its name is taken out of texts.
        place: in it.
    """
    if not place.exists():
        return {}
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return {str(p.relative_to(place)): _content(p, folder) for p in files}


def first_difference(expected: dict[str, Any], found: dict[str, Any]) -> str | None:
    """In words; None if all is equal."""
    if missing := sorted(expected.keys() - found.keys()):
        return f"missing: {', '.join(missing[:4])}"
    if left := sorted(found.keys() - expected.keys()):
        return f"left over: {', '.join(left[:4])}"
    for name, value in expected.items():
        if difference := _difference(value, found[name]):
            return f"{name}: {difference}"
    return None


def _content(path: Path, folder: Path) -> Any:
    try:
        return _read(path, folder)
    except Exception as error:  # a damaged result is a difference, not an end of the matrix
        return f"cannot be read: {type(error).__name__}: {error}"


def _read(path: Path, folder: Path) -> Any:
    if path.name.endswith(".json.gz"):
        return _plain(json.loads(gzip.decompress(path.read_bytes())), folder)
    if path.name == "finished.json":
        # Sizes of pickles, which depend on what its strings share with each other: names only.
        content = json.loads(path.read_text())
        return _plain({**content, "files": sorted(content["files"])}, folder)
    if path.suffix == ".json":
        return _plain(json.loads(path.read_text()), folder)
    if path.suffix == ".jsonl":
        return [_plain(json.loads(line), folder) for line in path.read_text().splitlines()]
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name].tolist() for name in file.files}
    if path.suffix == ".pt":
        # Written by the job a moment ago.
        return _plain(dataclasses.asdict(torch.load(path, weights_only=False)), folder)
    if path.suffix == ".traj":
        return [_frame(atoms) for atoms in ase.io.read(path, ":")]
    if path.suffix == ".aselmdb":
        return _rows(path)
    if path.suffix == ".html":
        return _plain(path.read_text(), folder)
    if path.name.endswith((".lock", "lock")):
        return "a lock"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _plain(value: Any, folder: Path) -> Any:
    """As lists, dictionaries and numbers, without times and without the folder's name."""
    if isinstance(value, dict):
        return {str(k): _plain(v, folder) for k, v in value.items() if k not in _TIMES}
    if isinstance(value, list | tuple):
        return [_plain(inner, folder) for inner in value]
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), value.tolist()]
    if isinstance(value, str):
        text = value.replace(str(folder), "FOLDER")
        return re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.]+", "TIME", text)
    return value


def _frame(atoms: Any) -> dict[str, Any]:
    content = {**atoms.arrays, "cell": np.array(atoms.cell)}
    if atoms.calc is not None:
        content |= atoms.calc.results
    return {name: np.asarray(value).tolist() for name, value in content.items()}


def _rows(path: Path) -> list[Any]:
    from ase_db_backends.aselmdb import LMDBDatabase

    database = LMDBDatabase(path, readonly=True, use_lock_file=False)
    try:
        rows = []
        for row in database.select():
            entries = {k: v for k, v in row.__dict__.items() if k not in _TIMES}
            rows.append({k: v.tolist() if hasattr(v, "tolist") else v for k, v in entries.items()})
        return rows
    finally:
        database.close()


def _difference(expected: Any, found: Any, at: str = "") -> str | None:
    if isinstance(expected, dict) and isinstance(found, dict):
        if expected.keys() != found.keys():
            return f"{at} has other keys: {sorted(expected.keys() ^ found.keys())[:4]}"
        pairs = [(f"{at}.{key}" if at else str(key), key) for key in expected]
    elif isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return f"{at} has {len(found)} entries, not {len(expected)}"
        pairs = [(f"{at}[{i}]", i) for i in range(len(expected))]
    elif expected == found or (expected != expected and found != found):
        return None
    else:
        return f"{at} is {str(found)[:80]}, not {str(expected)[:80]}"
    for name, key in pairs:
        if difference := _difference(expected[key], found[key], name):
            return difference
    return None
