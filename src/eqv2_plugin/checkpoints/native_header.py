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

from eqv2_plugin.checkpoints.whitelist import HEADS, check_model_config, require, with_full_names

__all__ = ["HEADS", "NativeHeader", "TaskRecord", "check_model_config"]

FORMAT_VERSION = 1
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
            require(isinstance(getattr(self, key), str), f"{where}: {key} must be text")
            _no_interpolation(getattr(self, key), where)
        require(self.level in ("system", "atom"), f"{where}: level must be system or atom")
        require(self.dtype in _DTYPES, f"{where}: dtype must be one of {', '.join(_DTYPES)}")
        require(
            isinstance(self.dim, list) and all(type(d) is int and d > 0 for d in self.dim),
            f"{where}: dim must be a list of positive whole numbers",
        )
        require(
            isinstance(self.datasets, list) and all(isinstance(d, str) for d in self.datasets),
            f"{where}: datasets must be a list of names",
        )
        for dataset in self.datasets:
            _no_interpolation(dataset, where)
        for key in ("mean", "rmsd"):
            value = getattr(self, key)
            require(
                type(value) is float and math.isfinite(value),
                f"{where}: {key} must be a finite number with a decimal point, got {value!r}",
            )
        require(self.rmsd > 0, f"{where}: rmsd must be positive, got {self.rmsd}")
        require(type(self.has_references) is bool, f"{where}: has_references must be true or false")


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
        require(len(names) > 0, "there is no task")
        require(len(set(names)) == len(names), f"a task occurs twice: {', '.join(names)}")

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
        require(isinstance(content, dict), "its description must be a JSON object")
        version = content.get("version")
        require(
            version == FORMAT_VERSION and type(version) is int,
            f"it has format version {version!r}, but this eqv2_plugin reads version "
            f"{FORMAT_VERSION}; install the release of eqv2_plugin that wrote it",
        )
        _same_keys(content, {"version", "model", "tasks"}, "its description")
        require(isinstance(content["tasks"], list), "tasks must be a list")
        return cls(
            with_full_names(content["model"]), tuple(_task(record) for record in content["tasks"])
        )


def _task(record: Any) -> TaskRecord:
    require(isinstance(record, dict), "every task must be a JSON object")
    _same_keys(record, {field.name for field in fields(TaskRecord)}, "a task")
    return TaskRecord(**record)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _no_interpolation(text: str, where: str) -> None:
    require("${" not in text, f"{where}: the text {text!r} is not allowed")


def _same_keys(content: Mapping[str, Any], expected: set[str], where: str) -> None:
    missing, unknown = sorted(expected - set(content)), sorted(set(content) - expected)
    require(
        not missing and not unknown,
        f"{where} must have the keys {', '.join(sorted(expected))}; "
        f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}",
    )
