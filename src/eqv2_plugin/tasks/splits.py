"""The splits of a data set that a job predicts: where they are, and what tells them from others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eqv2_plugin.data.sample import EMBEDDED
from eqv2_plugin.data.structures import Structures, plain


def split_configs(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{split: config for `open_structures`} of what a config gives as ``data``.

    Args:
        data: ``root`` (folder that ``src`` is relative to, or "embedded:SAMPLE"), ``reader``
            (fairchem's options for all splits, with ``format``), ``splits`` ({split: {"src":
            path, ...}}) and ``how_to_get`` (sentence for the error where the root is missing).
    """
    if data["root"] is None:
        raise FileNotFoundError(f"no data: set data_root=FOLDER. {data['how_to_get']}")
    if not data["splits"]:
        raise ValueError("no splits to predict: give at least one")
    root = str(data["root"])
    place = root + "/" if root.startswith(EMBEDDED) else f"{Path(root).expanduser()}/"
    return {
        str(split): {**data["reader"], **options, "src": place + str(options["src"])}
        for split, options in data["splits"].items()
    }


def describe_data(config: Mapping[str, Any], structures: Structures) -> dict[str, Any]:
    """A split by its options, the sizes of its files, and its first, middle and last structure.

    Its path is left out: the same data may lie elsewhere.
    """
    options = plain(config)
    digest = hashlib.sha256()
    for index in sorted({0, len(structures) // 2, len(structures) - 1}):
        atoms = structures[index]
        digest.update(f"{atoms.info['sid']} {atoms.info.get('fid')}\n".encode())
        for array in (atoms.numbers, atoms.positions, atoms.cell.array):
            digest.update(array.tobytes())
    return {
        "options": {str(key): str(value) for key, value in options.items() if key != "src"},
        "structures": len(structures),
        "files": {file.name: file.stat().st_size for file in structures.files()},
        "three_structures_sha256": digest.hexdigest(),
    }


def fingerprint(config: Mapping[str, Any], structures: Structures) -> str:
    """A hash of `describe_data`: it tells these data from others, wherever they lie."""
    described = json.dumps(describe_data(config, structures), sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:16]
