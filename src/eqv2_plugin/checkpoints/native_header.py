"""What a native file says beside its weights, and the check of every word of it.

The text comes from a file that anybody may have written, and classes are made from it. So it
names classes of a fixed list only, and holds no key and no text that Hydra would act upon.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from eqv2_plugin.config import BackboneConfig

FORMAT_VERSION = 1
MODELS = ("eqv2_plugin.model.EquiformerV2",)
BACKBONES = ("eqv2_plugin.backbone.EquiformerV2Backbone",)
HEADS = (
    "eqv2_plugin.heads.conservative.ConservativeHead",
    "eqv2_plugin.heads.energy.EnergyHead",
    "eqv2_plugin.heads.forces.ForceHead",
    "eqv2_plugin.heads.forces.NoiseHead",
    "eqv2_plugin.heads.joined_stress.JoinedStressHead",
    "eqv2_plugin.heads.stress.StressHead",
)
_FLAGS = ("pass_through_head_outputs", "supports_single_atoms", "otf_graph", "freeze_backbone")
_MODEL_KEYS = {"_target_", "backbone", "heads", "facts", "model_id", *_FLAGS}
_DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class TaskRecord:
    """What inference needs to know of one of fairchem's tasks.

    Attributes:
        name: of the task and of the model's output.
        level: "system" or "atom".
        property: what the calculator calls it: energy, forces, stress.
        dim, dtype: shape and type of the label.
        datasets: names of the data sets that it belongs to.
        mean, rmsd: of the normaliser, in eV, eV/Å or eV/Å^3.
        has_references: whether the file holds element references of it.
    """

    name: str
    level: str
    property: str
    dim: list[int]
    dtype: str
    datasets: list[str]
    mean: float
    rmsd: float
    has_references: bool

    def __post_init__(self) -> None:
        where = f"task {self.name!r}"
        for key in ("name", "level", "property", "dtype"):
            _require(isinstance(getattr(self, key), str), f"{where}: {key} must be text")
            _no_interpolation(getattr(self, key), where)
        _require(self.level in ("system", "atom"), f"{where}: level must be system or atom")
        _require(self.dtype in _DTYPES, f"{where}: dtype must be one of {', '.join(_DTYPES)}")
        _require(
            isinstance(self.dim, list) and all(type(d) is int and d > 0 for d in self.dim),
            f"{where}: dim must be a list of positive whole numbers",
        )
        _require(
            isinstance(self.datasets, list) and all(isinstance(d, str) for d in self.datasets),
            f"{where}: datasets must be a list of names",
        )
        for dataset in self.datasets:
            _no_interpolation(dataset, where)
        for key in ("mean", "rmsd"):
            value = getattr(self, key)
            _require(
                type(value) is float and math.isfinite(value),
                f"{where}: {key} must be a finite number with a decimal point, got {value!r}",
            )
        _require(self.rmsd > 0, f"{where}: rmsd must be positive, got {self.rmsd}")
        _require(
            type(self.has_references) is bool, f"{where}: has_references must be true or false"
        )


@dataclass(frozen=True)
class NativeHeader:
    """Model configuration and tasks of a native file; checked when made.

    Attributes:
        model: configuration of `EquiformerV2`, as fairchem's checkpoints hold it.
        tasks: in the order of the checkpoint.

    Raises:
        ValueError: a class, key or value that is not allowed.
    """

    model: dict[str, Any]
    tasks: tuple[TaskRecord, ...]

    def __post_init__(self) -> None:
        check_model_config(self.model)
        names = [task.name for task in self.tasks]
        _require(len(names) > 0, "there is no task")
        _require(len(set(names)) == len(names), f"a task occurs twice: {', '.join(names)}")

    def to_json(self) -> str:
        """One line of JSON."""
        content = {
            "version": FORMAT_VERSION,
            "model": self.model,
            "tasks": [asdict(task) for task in self.tasks],
        }
        return json.dumps(content, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> NativeHeader:
        """Read and check what `to_json` wrote.

        Raises:
            ValueError: anything else.
        """
        try:
            content = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"its description is no JSON: {error}") from error
        _require(isinstance(content, dict), "its description must be a JSON object")
        version = content.get("version")
        _require(
            version == FORMAT_VERSION and type(version) is int,
            f"it has format version {version!r}, but this eqv2_plugin reads version "
            f"{FORMAT_VERSION}; install the release of eqv2_plugin that wrote it",
        )
        _same_keys(content, {"version", "model", "tasks"}, "its description")
        _require(isinstance(content["tasks"], list), "tasks must be a list")
        return cls(content["model"], tuple(_task(record) for record in content["tasks"]))


def check_model_config(model: Any) -> None:
    """Refuse whatever is not one of our models with plain options.

    Raises:
        ValueError: names the class, key or value at fault.
    """
    _require(isinstance(model, dict), "the model's configuration must be a JSON object")
    unknown = sorted(set(model) - _MODEL_KEYS)
    _require(not unknown, f"the model's configuration has unknown keys: {', '.join(unknown)}")
    missing = sorted({"_target_", "backbone", "heads"} - set(model))
    _require(not missing, f"the model's configuration lacks {', '.join(missing)}")
    _allowed(model["_target_"], MODELS, "model")
    for flag in _FLAGS:
        _require(type(model.get(flag, False)) is bool, f"{flag} must be true or false")
    _plain({key: value for key, value in model.items() if key != "_target_"}, "the model")
    backbone, heads = model["backbone"], model["heads"]
    _require(isinstance(backbone, dict), "backbone must be a JSON object")
    _allowed(backbone.get("model"), BACKBONES, "backbone")
    BackboneConfig.from_options({key: v for key, v in backbone.items() if key != "model"})
    _require(isinstance(heads, dict) and len(heads) > 0, "heads must be a JSON object, not empty")
    for name, head in heads.items():
        _require(isinstance(head, dict), f"head {name!r} must be a JSON object")
        _allowed(head.get("module"), HEADS, f"head {name!r}")


def _task(record: Any) -> TaskRecord:
    _require(isinstance(record, dict), "every task must be a JSON object")
    _same_keys(record, {field.name for field in fields(TaskRecord)}, "a task")
    return TaskRecord(**record)


def _plain(value: Any, where: str) -> None:
    """Only JSON without anything that Hydra or OmegaConf acts upon."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            # _target_, _args_, _partial_, ...
            _require(
                isinstance(key, str) and not key.startswith("_"),
                f"{where}: the key {key!r} is not allowed",
            )
            _plain(item, f"{where}.{key}")
    elif isinstance(value, list):
        for item in value:
            _plain(item, where)
    elif isinstance(value, str):
        _no_interpolation(value, where)
    else:
        _require(
            value is None or isinstance(value, (bool, int, float)),
            f"{where}: {type(value).__name__} is no JSON value",
        )


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _no_interpolation(text: str, where: str) -> None:
    _require("${" not in text, f"{where}: the text {text!r} is not allowed")


def _allowed(name: Any, classes: tuple[str, ...], what: str) -> None:
    _require(
        name in classes,
        f"the class {name!r} is not allowed as {what}: allowed are {', '.join(classes)}",
    )


def _same_keys(content: Mapping[str, Any], expected: set[str], where: str) -> None:
    missing, unknown = sorted(expected - set(content)), sorted(set(content) - expected)
    _require(
        not missing and not unknown,
        f"{where} must have the keys {', '.join(sorted(expected))}; "
        f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}",
    )


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
