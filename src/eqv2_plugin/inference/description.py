"""What predictions were made with and of: a run that is continued must match it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairchem.core.units.mlip_unit.predict import MLIPPredictUnit

from eqv2_plugin.common.files import save_text
from eqv2_plugin.common.hashing import file_sha256
from eqv2_plugin.data.structures import Structures, plain
from eqv2_plugin.models.metadata import metadata_of

UNKNOWN = "energies of this model: the checkpoint does not say what they are relative to"
_FILE = "description.json"


def describe_model(checkpoint: Path, unit: MLIPPredictUnit, task_name: str) -> dict[str, Any]:
    """The checkpoint by its contents, the settings of inference, and what the energy is."""
    metadata = metadata_of(unit.model.module)
    settings = dataclasses.asdict(unit.inference_settings)
    return {
        "checkpoint_sha256": file_sha256(checkpoint),
        "task_name": task_name,
        "energy": UNKNOWN if metadata is None else metadata.sentence(),
        "inference_settings": {key: str(value) for key, value in sorted(settings.items())},
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


def begin(folder: Path, description: Mapping[str, Any]) -> None:
    """Write a folder's description, or see that the one that is there is the same.

    Raises:
        ValueError: the folder belongs to other predictions; the differences are named.
        OSError: it cannot be written.
    """
    if not (folder / _FILE).exists():
        save_text(folder / _FILE, json.dumps(description, indent=2, ensure_ascii=False) + "\n")
        return
    before, now = _flattened(read_description(folder)), _flattened(description)
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if changed:
        listed = "; ".join(f"{key}: {before.get(key)} -> {now.get(key)}" for key in changed[:5])
        raise ValueError(
            f"{folder} holds predictions of something else ({listed}): give the new ones another "
            "name (run_name=NAME), or delete that folder"
        )


def read_description(folder: Path) -> dict[str, Any]:
    """What `begin` wrote.

    Raises:
        FileNotFoundError: nothing was begun here.
        ValueError: the file is damaged.
    """
    file = folder / _FILE
    if not file.exists():
        raise FileNotFoundError(f"no predictions were begun in {folder}")
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(
            f"{file} is damaged ({error}): delete the folder and begin anew"
        ) from error


def _flattened(value: Any, prefix: str = "") -> dict[str, Any]:
    """Values with dotted keys."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    inner = ((f"{prefix}.{key}" if prefix else str(key), value[key]) for key in value)
    return {k: v for name, part in inner for k, v in _flattened(part, name).items()}
