"""From a fairchem inference checkpoint to the native form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
import torch
from fairchem.core.common.registry import registry
from fairchem.core.modules.normalization.element_references import ElementReferences
from fairchem.core.modules.normalization.normalizer import Normalizer
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint
from omegaconf import OmegaConf

import eqv2_plugin  # noqa: F401  # registers the short names of our classes
from eqv2_plugin.checkpoints.native import NativeModel, write_native
from eqv2_plugin.checkpoints.native_header import NativeHeader, TaskRecord
from eqv2_plugin.checkpoints.reading import V1_CLASSES, inference_classes, read_checkpoint

_NORMALIZERS = (
    "eqv2_plugin.data.references.normalizer",
    "fairchem.core.modules.normalization.normalizer.Normalizer",
)
_TENSOR = "torch.tensor"  # within references
_REFERENCES = (
    "eqv2_plugin.data.references.element_references",
    "eqv2_plugin.data.references.written_out_references",
    "fairchem.core.modules.normalization.element_references.ElementReferences",
)


def export_native(checkpoint: Path, out: Path) -> NativeModel:
    """Write the native form of a checkpoint.

    It holds the averaged (EMA) weights, which are those that fairchem predicts with, the
    model's configuration and of every task what prediction needs. Losses and metrics stay
    behind: they serve training only.

    Args:
        checkpoint: fairchem inference checkpoint (``inference_ckpt.pt``) of one of our models.
        out: new file, ``.safetensors``.

    Raises:
        ValueError: see `read_inference_checkpoint`, `as_native` and `write_native`.
    """
    unpickled = read_inference_checkpoint(checkpoint)
    try:
        content = as_native(unpickled)
    except ValueError as error:
        raise ValueError(f"{checkpoint}: {error}") from error
    write_native(content, out)
    return content


def read_inference_checkpoint(path: Path) -> MLIPInferenceCheckpoint:
    """Unpickle a fairchem inference checkpoint, allowing its own classes and no others.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: truncated, not a checkpoint, or with another class inside.
    """
    content = read_checkpoint(path, classes=[*V1_CLASSES, *inference_classes()])
    if not isinstance(content, MLIPInferenceCheckpoint):
        raise ValueError(
            f"{path} is no inference checkpoint of fairchem 2; convert checkpoints of "
            "fairchem-core 1 with `eqv2 convert` first"
        )
    return content


def as_native(checkpoint: MLIPInferenceCheckpoint) -> NativeModel:
    """The native form of a checkpoint; the checkpoint stays as it is.

    Raises:
        ValueError: another model than ours, no averaged weights, or tasks that need classes
            that are not allowed.
    """
    if not checkpoint.ema_state_dict:
        raise ValueError(
            "it has no averaged (EMA) weights, and fairchem predicts with nothing else"
        )
    averaged = dict(checkpoint.ema_state_dict)
    averaged.pop("n_averaged", None)
    tasks, references = [], {}
    for config in _plain(checkpoint.tasks_config):
        record, values = _task(config)
        tasks.append(record)
        if values is not None:
            references[record.name] = values
    header = NativeHeader(_model_config(_plain(checkpoint.model_config)), tuple(tasks))
    return NativeModel(header, {_bare(name): v for name, v in averaged.items()}, references)


def _bare(name: str) -> str:
    while name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def _plain(config: Any) -> Any:
    """OmegaConf's containers, and whatever holds them, as dicts and lists."""
    if OmegaConf.is_config(config):
        return OmegaConf.to_container(config)
    if isinstance(config, Mapping):
        return {key: _plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [_plain(value) for value in config]
    return config


def _model_config(config: dict[str, Any]) -> dict[str, Any]:
    """With full names, and without options that are not set."""
    config = {
        key: value
        for key, value in config.items()
        if not (key in ("finetune_config", "model_id", "facts") and value is None)
    }
    for part, key in ((config.get("backbone"), "model"), *_head_names(config)):
        # Short names are those that an import of the package registers.
        found = _registered(part.get(key)) if isinstance(part, dict) else None
        if found is not None:
            part[key] = f"{found.__module__}.{found.__qualname__}"
    return config


def _registered(name: Any) -> type | None:
    return registry.mapping["model_name_mapping"].get(name)


def _head_names(config: dict[str, Any]) -> list[tuple[Any, str]]:
    heads = config.get("heads")
    return [(head, "module") for head in heads.values()] if isinstance(heads, dict) else []


def _task(config: dict[str, Any]) -> tuple[TaskRecord, torch.Tensor | None]:
    name = config.get("name")
    normalizer = _instantiate(config.get("normalizer"), _NORMALIZERS, Normalizer, name)
    references = config.get("element_references")
    values = None
    if references is not None:
        made = _instantiate(references, _REFERENCES, ElementReferences, name)
        values = made.element_references
    record = TaskRecord(
        name=config["name"],
        level=config["level"],
        property=config["property"],
        dim=config["out_spec"]["dim"],
        dtype=config["out_spec"]["dtype"],
        datasets=config["datasets"],
        mean=_number(normalizer.mean),
        rmsd=_number(normalizer.rmsd),
        has_references=values is not None,
    )
    return record, values


def _instantiate(config: Any, allowed: tuple[str, ...], kind: type, task: Any) -> Any:
    made_with = _targets(config) or [None]
    wrong = [target for target in made_with[1:] if target != _TENSOR]
    wrong += [made_with[0]] if made_with[0] not in allowed else []
    if wrong:
        raise ValueError(
            f"task {task!r} makes its {kind.__name__} with {wrong[0]!r}; allowed are "
            f"{', '.join(allowed)}"
        )
    # The numbers of a config are double; fairchem rounds them to its settings' precision.
    precision = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return hydra.utils.instantiate(config)
    finally:
        torch.set_default_dtype(precision)


def _targets(config: Any) -> list[Any]:
    """Whatever Hydra would call, the outermost first.

    Raises:
        ValueError: an instruction to Hydra that could make it call something else, too.
    """
    if isinstance(config, list):
        return [target for value in config for target in _targets(value)]
    if not isinstance(config, dict):
        return []
    for key in config:
        if str(key).startswith("_") and key not in ("_target_", "_convert_"):
            raise ValueError(f"the key {key!r} is not allowed in a task")
    own = [config["_target_"]] if "_target_" in config else []
    return own + [target for value in config.values() for target in _targets(value)]


def _number(value: torch.Tensor) -> float:
    if value.numel() != 1:
        raise ValueError(f"a normaliser must hold one number, got {value.tolist()}")
    return float(value)
