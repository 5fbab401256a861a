"""What a checkpoint file holds, of fairchem-core 1 or fairchem 2, without running it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint

from eqv2_plugin.backbones.registered import backbone_class
from eqv2_plugin.checkpoints.inference_checkpoint import as_native
from eqv2_plugin.checkpoints.native import SUFFIX, read_native
from eqv2_plugin.checkpoints.reading import read_checkpoint
from eqv2_plugin.checkpoints.record import TaskRecord
from eqv2_plugin.checkpoints.v1.file import take_apart
from eqv2_plugin.common.hashing import file_sha256, state_sha256
from eqv2_plugin.models.known_elements import references_or_nan
from eqv2_plugin.models.metadata import UNITS, ModelMetadata, energy_kind_of


def describe_file(path: Path, unsafe: bool = False) -> dict[str, Any]:
    """A file as plain data, for people or as JSON.

    Returns:
        ``file``, ``file_sha256``, ``form``, ``architecture`` (options of the backbone and the
        heads), ``force_scale`` (eV/Å, unit of the forces that it embeds; None if it embeds none),
        ``parameters`` (number), ``weights_sha256``, ``tasks`` (a list of name,
        property, unit, datasets, mean, rmsd and element references by atomic number),
        ``energy_kind`` (name of an `EnergyKind`), ``facts`` (`ModelMetadata`) and ``notes``.
    """
    form, notes = "inference checkpoint of fairchem 2", []
    if path.suffix == SUFFIX:
        content = read_native(path)
    else:
        loaded = read_checkpoint(path, unsafe)
        if isinstance(loaded, MLIPInferenceCheckpoint):
            try:
                content = as_native(loaded, unsafe)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        else:
            parts = take_apart(loaded, path)
            content, form = parts.content, f"fairchem-core 1: {parts.layout.describe()}"
            chosen = parts.weights
            convert = f"eqv2 convert {path.name} NEW.pt takes the {chosen.name} weights: "
            notes = [convert + chosen.reason, *parts.notes]
    model = content.header.model
    metadata = ModelMetadata.from_mapping(model.get("facts") or {})
    backbone = {key: value for key, value in model["backbone"].items() if key != "model"}
    options = backbone_class(model["backbone"]["model"]).Options.from_options(backbone)
    return {
        "file": path.name,
        "file_sha256": file_sha256(path),
        "form": form,
        "architecture": {"backbone": backbone, "heads": model["heads"]},
        "force_scale": options.force_scale if options.force_encoding else None,
        "parameters": sum(value.numel() for value in content.weights.values()),
        "weights_sha256": state_sha256(content.weights),
        "tasks": [
            _describe_task(task, content.references.get(task.name), metadata.units)
            for task in content.header.tasks
        ],
        "energy_kind": energy_kind_of(metadata).value,
        "facts": metadata.to_dict(),
        "notes": notes,
    }


def _describe_task(
    task: TaskRecord, references: torch.Tensor | None, units: Mapping[str, str]
) -> dict[str, Any]:
    """A task in short; element references by atomic number, of those that have one."""
    held = None
    if references is not None:
        values = references_or_nan(references.double())
        known = torch.isfinite(values).nonzero().flatten().tolist()
        held = {str(z): float(values[z]) for z in known if z > 0}
    return {
        "name": task.name,
        "property": task.property,
        "unit": units.get(task.name, UNITS.get(task.property, "unknown")),
        "datasets": list(task.datasets),
        "mean": task.mean,
        "rmsd": task.rmsd,
        "element_references": held,
    }
