"""The native form of a model: weights as safetensors, all else as JSON in the same file.

Reading it unpickles nothing. `write_native` and `read_native` are each other's inverse; the
`door` makes fairchem's predict unit of a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from fairchem.core.units.mlip_unit.api.inference import (
    InferenceSettings,
    MLIPInferenceCheckpoint,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from eqv2_plugin.checkpoints.native_header import NativeHeader, TaskRecord
from eqv2_plugin.checkpoints.whitelist import MODELS, class_of
from eqv2_plugin.common.files import whole_file

if TYPE_CHECKING:
    from fairchem.core.units.mlip_unit.predict import MLIPPredictUnit

SUFFIX = ".safetensors"
_HEADER = "eqv2_plugin"  # key of the description in the file's metadata
_WEIGHT, _REFERENCES = "model.", "element_references."
_UNIT, _NORMALIZATION = (
    "fairchem.core.units.mlip_unit.mlip_unit",
    "fairchem.core.modules.normalization",
)


@dataclass(frozen=True)
class NativeModel:
    """A native file's content.

    Attributes:
        header: model configuration and tasks.
        weights: the model's state dict, as inference uses it.
        references: [elements] eV per atom, by task name.
    """

    header: NativeHeader
    weights: Mapping[str, torch.Tensor]
    references: Mapping[str, torch.Tensor]


def write_native(content: NativeModel, path: Path) -> None:
    """Write a native file; it appears under its name only when it is complete.

    Raises:
        ValueError: another suffix, or the file exists.
        OSError: it cannot be written.
    """
    if path.suffix != SUFFIX:
        raise ValueError(f"{path}: a native file's name ends with {SUFFIX}")
    if path.exists():
        raise ValueError(f"{path} exists; remove it or give another name")
    tensors = {_WEIGHT + name: value for name, value in content.weights.items()}
    tensors |= {_REFERENCES + name: value for name, value in content.references.items()}
    # safetensors wants every tensor in one piece of its own.
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }
    with whole_file(path) as building:
        try:
            save_file(tensors, building, metadata={_HEADER: content.header.to_json()})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def read_native(path: Path) -> NativeModel:
    """Read and check a native file.

    Raises:
        ValueError: no such file, truncated, of another kind or version, a class that is not
            allowed, or weights that do not fit the configuration.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_HEADER)
            if text is None:
                raise ValueError(
                    f"{path} was not written by `eqv2 export`: its metadata has no {_HEADER!r}"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no complete safetensors file ({error}); download or export it again"
        ) from error
    try:
        header = NativeHeader.from_json(text)
        weights = _with_prefix(tensors, _WEIGHT)
        references = _with_prefix(tensors, _REFERENCES)
        left = sorted(set(tensors) - {_WEIGHT + n for n in weights})
        _same_names(left, [_REFERENCES + t.name for t in header.tasks if t.has_references])
        _check_references(references)
        check_weights(weights, header.model)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return NativeModel(header, weights, references)


def load_native(
    path: str | Path,
    device: Literal["cpu", "cuda"] | None = None,
    inference_settings: InferenceSettings | str = "default",
) -> MLIPPredictUnit:
    """`eqv2_plugin.checkpoints.door.open_model`, under its name from when it read native files."""
    from eqv2_plugin.checkpoints.door import open_model

    return open_model(path, device, inference_settings)


def as_checkpoint(content: NativeModel) -> MLIPInferenceCheckpoint:
    """The checkpoint that fairchem would have unpickled."""
    averaged = {f"module.{name}": value for name, value in content.weights.items()}
    tasks = [_task_config(task, content.references.get(task.name)) for task in content.header.tasks]
    return MLIPInferenceCheckpoint(
        model_config=deepcopy(content.header.model),
        model_state_dict=dict(content.weights),
        # fairchem wants the counter, and uses it in training only.
        ema_state_dict={"n_averaged": torch.tensor(0), **averaged},
        tasks_config=tasks,
    )


def _task_config(task: TaskRecord, references: torch.Tensor | None) -> dict[str, Any]:
    target = "_target_"
    config: dict[str, Any] = {
        target: f"{_UNIT}.Task",
        "name": task.name,
        "level": task.level,
        "property": task.property,
        "out_spec": {target: f"{_UNIT}.OutputSpec", "dim": task.dim, "dtype": task.dtype},
        "normalizer": {
            target: f"{_NORMALIZATION}.normalizer.Normalizer",
            "mean": task.mean,
            "rmsd": task.rmsd,
        },
        "datasets": task.datasets,
    }
    if references is not None:
        # Numbers of a config are double, and become what fairchem's settings ask for; a float32
        # tensor was one from the start, and stays it.
        numbers = {target: "torch.tensor", "_convert_": "all", "data": references.tolist()}
        config["element_references"] = {
            target: f"{_NORMALIZATION}.element_references.ElementReferences",
            "element_references": numbers if references.dtype == torch.float64 else references,
        }
    return config


def _with_prefix(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _check_references(references: Mapping[str, torch.Tensor]) -> None:
    for name, values in references.items():
        if values.ndim != 1 or not values.is_floating_point():
            raise ValueError(
                f"the element references of task {name!r} must be a list of numbers, but have "
                f"shape {tuple(values.shape)} and type {values.dtype}"
            )


def check_weights(
    weights: Mapping[str, torch.Tensor], model_config: dict[str, Any], exact_types: bool = True
) -> None:
    """Weights must be those of the model: names, shapes and types; nothing is allocated.

    Args:
        weights: by the model's own names.
        model_config: checked, see `check_model_config`.
        exact_types: refuse another precision, too.

    Raises:
        ValueError: what does not fit, or options that contradict each other.
    """
    layers = model_config["backbone"].get("num_layers", 0)
    if layers > len(weights):
        raise ValueError(f"num_layers={layers} with {len(weights)} weights in the file")
    options = {key: value for key, value in model_config.items() if key != "_target_"}
    try:
        with torch.device("meta"):
            expected = class_of(MODELS[0])(**options).state_dict()
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"no model can be made of its configuration: {error}") from error
    _same_names(sorted(weights), list(expected))
    for name, value in expected.items():
        found = weights[name]
        fits = found.dtype == value.dtype or (
            not exact_types and found.is_floating_point() == value.is_floating_point()
        )
        if found.shape != value.shape or not fits:
            raise ValueError(
                f"the weight {name} has shape {tuple(found.shape)} and type {found.dtype}, but "
                f"the configuration says {tuple(value.shape)} and {value.dtype}"
            )


def _same_names(found: list[str], expected: list[str]) -> None:
    missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or unknown:
        raise ValueError(
            "its tensors do not fit its configuration; "
            f"missing: {_listed(missing)}; unexpected: {_listed(unknown)}"
        )


def _listed(names: list[str], shown: int = 4) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more if names else "none"
