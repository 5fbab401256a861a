"""From a file of fairchem-core 1 to an inference checkpoint of fairchem 2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
import torch
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint

from eqv2_plugin.checkpoints.reading import read_checkpoint
from eqv2_plugin.checkpoints.v1.config import read_yaml
from eqv2_plugin.checkpoints.v1.file import V1File, take_apart
from eqv2_plugin.checkpoints.v1.forward_check import check_forward
from eqv2_plugin.checkpoints.v1.strict_keys import compare_keys
from eqv2_plugin.common.files import whole_file
from eqv2_plugin.common.hashing import file_sha256, state_sha256
from eqv2_plugin.models.energy_kind import ENERGY_REFERENCES
from eqv2_plugin.models.hydra import EquiformerV2
from eqv2_plugin.models.metadata import UNITS, ModelMetadata
from eqv2_plugin.version import __version__


@dataclass(frozen=True)
class Conversion:
    """What was done.

    Attributes:
        facts: as written into the checkpoint.
        layout: of the old file, in words.
        reason: why these weights.
        parameters: their number.
        task_name: for `FAIRChemCalculator`.
        checked: {task: prediction} of the forward check.
        notes: what the user should know besides.
    """

    facts: ModelMetadata
    layout: str
    reason: str
    parameters: int
    task_name: str
    checked: dict[str, torch.Tensor]
    notes: list[str]


def convert_file(
    source: Path,
    target: Path,
    weights: str | None = None,
    config: Path | None = None,
    unsafe: bool = False,
    wanted_reference: str | None = None,
) -> Conversion:
    """Convert a checkpoint; ``target`` appears only when all checks have passed.

    Args:
        source: ``.pt`` file of fairchem-core 1 or OCP.
        target: file to write.
        weights: "ema", "raw", or None for what fairchem-core 1's calculator used.
        config: v1's YAML config, in place of the one in the file.
        unsafe: full unpickling, see `read_checkpoint`.
        wanted_reference: the name of an `EnergyKind`.

    Raises:
        FileNotFoundError: no such source.
        FileExistsError: the target exists.
        ValueError: the file cannot be converted, in one sentence.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists; remove it, or name another file")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent} for the converted file")
    checkpoint = read_checkpoint(source, unsafe)
    given = read_yaml(config) if config else None
    parts = take_apart(checkpoint, source, weights, given, wanted_reference)
    del checkpoint
    model = build(parts)
    facts = _facts(parts, source, model)
    tasks = [hydra.utils.instantiate(task) for task in parts.tasks]
    checked = check_forward(model, tasks)
    write(target, {**parts.model_config, "facts": facts.to_dict()}, model.state_dict(), parts.tasks)
    return Conversion(
        facts=facts,
        layout=parts.layout.describe(),
        reason=parts.weights.reason,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        task_name=parts.tasks[0]["datasets"][0],
        checked=checked,
        notes=parts.notes,
    )


def build(parts: V1File) -> EquiformerV2:
    """The model with the file's weights, in float32.

    Raises:
        ValueError: the weights do not fit.
    """
    options = {key: value for key, value in parts.model_config.items() if key != "_target_"}
    with torch.device("meta"):
        expected = EquiformerV2(**options).state_dict()
    compare_keys(parts.state, expected, parts.model_config["backbone"]["lmax"])
    model = EquiformerV2(**options)
    # The tensors of the mapped file itself, not copies: large models fit twice, not thrice.
    state = {name: value.to(torch.float32) for name, value in parts.state.items()}
    model.load_state_dict(state, strict=True, assign=True)
    return model


def write(
    target: Path,
    model_config: Mapping[str, Any],
    state: Mapping[str, torch.Tensor],
    tasks: list[dict[str, Any]],
) -> None:
    """Write an inference checkpoint; the same weights serve as both of its state dicts."""
    averaged = {"n_averaged": torch.tensor(0), **{f"module.{k}": v for k, v in state.items()}}
    checkpoint = MLIPInferenceCheckpoint(
        model_config=dict(model_config),
        model_state_dict=dict(state),
        ema_state_dict=averaged,
        tasks_config=tasks,
    )
    with whole_file(target) as building, building.open("wb") as file:
        torch.save(checkpoint, file)


def _facts(parts: V1File, source: Path, model: EquiformerV2) -> ModelMetadata:
    data = parts.reference.data
    return ModelMetadata(
        energy_reference=ENERGY_REFERENCES[parts.reference.key],
        energy_kind=parts.reference.key,
        functional=data.functional if data else None,
        training_data=data.words if data else None,
        units={task["name"]: UNITS.get(task["property"], "unknown") for task in parts.tasks},
        provenance=parts.reference.basis,
        source_file=source.name,
        source_sha256=file_sha256(source),
        weights=parts.weights.kind,
        weights_sha256=state_sha256(model.state_dict()),
        converter_version=__version__,
    )
