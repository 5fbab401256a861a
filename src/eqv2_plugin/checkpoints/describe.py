"""What a checkpoint file holds, of fairchem-core 1 or fairchem 2, without running it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint

from eqv2_plugin.checkpoints.inference_checkpoint import plain_checkpoint
from eqv2_plugin.checkpoints.native import SUFFIX, as_checkpoint, read_native
from eqv2_plugin.checkpoints.reading import read_checkpoint
from eqv2_plugin.checkpoints.v1.file import take_apart
from eqv2_plugin.common.hashing import file_sha256, state_sha256
from eqv2_plugin.data.references.coefficients import PUBLISHED, load_coefficients
from eqv2_plugin.models.energy_kind import ENERGY_REFERENCES, energy_kind_of
from eqv2_plugin.models.known_elements import references_or_nan
from eqv2_plugin.models.metadata import UNITS, ModelMetadata


def describe_file(path: Path, unsafe: bool = False) -> dict[str, Any]:
    """Facts of a file as plain data, for people or as JSON.

    Returns:
        ``file``, ``file_sha256``, ``form``, ``architecture`` (options of the backbone and the
        heads), ``parameters`` (number), ``weights_sha256``, ``tasks`` (a list of name,
        property, unit, datasets, mean, rmsd and element references), ``energy_kind`` (name of an
        `EnergyKind`), ``facts`` (fields of `ModelMetadata`) and ``notes``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: no checkpoint, a damaged one, or one of another model.
    """
    content = as_checkpoint(read_native(path)) if path.suffix == SUFFIX else None
    if content is None:
        content = read_checkpoint(path, unsafe)
        if isinstance(content, MLIPInferenceCheckpoint):
            content = plain_checkpoint(content, path, unsafe)
    if isinstance(content, MLIPInferenceCheckpoint):
        described = _describe_inference(content)
    else:
        described = _describe_v1(content, path)
    return {"file": path.name, "file_sha256": file_sha256(path), **described}


def _describe_inference(checkpoint: MLIPInferenceCheckpoint) -> dict[str, Any]:
    model = checkpoint.model_config
    backbone = dict(model["backbone"])
    state = {
        key.removeprefix("module."): value
        for key, value in checkpoint.ema_state_dict.items()
        if key != "n_averaged"
    }
    backbone.pop("model")
    facts = ModelMetadata.from_mapping(model.get("facts") or {})
    return {
        "form": "inference checkpoint of fairchem 2",
        "architecture": {"backbone": backbone, "heads": model["heads"]},
        "parameters": _count(state),
        "weights_sha256": state_sha256(state),
        "tasks": [describe_task(task, facts.units) for task in checkpoint.tasks_config],
        "energy_kind": energy_kind_of(facts).value,
        "facts": facts.to_dict(),
        "notes": [],
    }


def _describe_v1(checkpoint: Any, path: Path) -> dict[str, Any]:
    parts = take_apart(checkpoint, path)
    data = parts.reference.data
    backbone = {k: v for k, v in parts.model_config["backbone"].items() if k != "model"}
    facts = ModelMetadata(
        energy_reference=ENERGY_REFERENCES[parts.reference.key],
        energy_kind=parts.reference.key,
        functional=data.functional if data else None,
        training_data=data.words if data else None,
        provenance=parts.reference.basis,
        weights=parts.weights.kind,
    )
    convert = f"eqv2 convert {path.name} NEW.pt takes the {parts.weights.kind} weights: "
    return {
        "form": f"fairchem-core 1: {parts.layout.describe()}",
        "architecture": {"backbone": backbone, "heads": parts.model_config["heads"]},
        "parameters": _count(parts.state),
        "weights_sha256": state_sha256(parts.state),
        "tasks": [describe_task(task, {}) for task in parts.tasks],
        "energy_kind": energy_kind_of(facts).value,
        "facts": facts.to_dict(),
        "notes": [convert + parts.weights.reason, *parts.notes],
    }


def describe_task(task: Mapping[str, Any], units: Mapping[str, str]) -> dict[str, Any]:
    """A task's config in short; element references by atomic number, of those that have one."""
    name, prop = str(task["name"]), str(task["property"])
    normalizer = task.get("normalizer") or {}
    return {
        "name": name,
        "property": prop,
        "unit": units.get(name, UNITS.get(prop, "unknown")),
        "datasets": list(task.get("datasets") or []),
        "mean": normalizer.get("mean", 0.0),
        "rmsd": normalizer.get("rmsd", 1.0),
        "element_references": _references(task.get("element_references")),
    }


def _references(config: Mapping[str, Any] | None) -> Any:
    """Values by atomic number if they are known, else the config (the name of a file)."""
    if config is None:
        return None
    if isinstance(config.get("values"), Mapping):
        return {str(atomic_numbers[symbol]): e for symbol, e in config["values"].items()}
    held = config.get("element_references")
    if config.get("name") in PUBLISHED:
        held = load_coefficients(config["name"])
    values = held.get("data") if isinstance(held, Mapping) else held
    if values is None:
        return {key: value for key, value in config.items() if not key.startswith("_")}
    numbers = references_or_nan(torch.as_tensor(values, dtype=torch.float64)).tolist()
    return {str(z): value for z, value in enumerate(numbers) if z > 0 and math.isfinite(value)}


def _count(state: Mapping[str, Any]) -> int:
    return sum(value.numel() for key, value in state.items() if not key.endswith("energy_lin_ref"))
