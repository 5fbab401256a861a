"""What prediction needs of a model file of either form, and the check of every word of it.

A file may be anybody's, and classes are made from it. So it names classes of fixed lists only, and
holds no key and no text that Hydra would act upon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from ase.data import chemical_symbols
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint

from eqv2_plugin.checkpoints.whitelist import (
    MODELS,
    check_model_config,
    class_of,
    require,
)
from eqv2_plugin.common.options import make_options
from eqv2_plugin.common.text import listed
from eqv2_plugin.data.references.coefficients import by_symbol

UNIT = "fairchem.core.units.mlip_unit.mlip_unit"
NORMALIZATION = "fairchem.core.modules.normalization"
EXACT_REFERENCES = "eqv2_plugin.data.references.exact_references"


@dataclass(frozen=True)
class TaskRecord:
    """What inference needs to know of one of fairchem's tasks; of a file's by `task_record`."""

    name: str  # of the task and of the model's output
    level: Literal["system", "atom"]  # whose property it is
    property: str  # what the calculator calls it: energy, forces, stress
    dim: tuple[int, ...]  # shape of the label
    dtype: Literal["float32", "float64"]  # of the label
    datasets: tuple[str, ...]  # names of the data sets that it belongs to
    mean: float  # of the normaliser, in eV, eV/Å or eV/Å^3
    rmsd: float  # likewise
    has_references: bool  # whether the file holds element references of it

    def __post_init__(self) -> None:
        for text in (self.name, self.property, *self.datasets):
            require("${" not in text, f"the text {text[:80]!r} is not allowed")
        require(all(size > 0 for size in self.dim), "dim must be a list of positive whole numbers")
        require(math.isfinite(self.mean), f"mean must be a finite number, got {self.mean}")
        require(
            math.isfinite(self.rmsd) and self.rmsd > 0, f"rmsd must be positive, got {self.rmsd}"
        )


def task_record(values: Mapping[str, Any]) -> TaskRecord:
    """A record of whatever a file holds; a ValueError names the task, and what is wrong with it."""
    try:
        return make_options(TaskRecord, values, "a task")
    except (ValueError, OverflowError) as error:
        raise ValueError(f"task {str(values.get('name'))[:80]!r}: {error}") from error


@dataclass(frozen=True)
class NativeHeader:
    """Model configuration and tasks; a class, key or value that is not allowed is refused."""

    model: dict[str, Any]  # of `EquiformerV2`, as fairchem's checkpoints hold it
    tasks: tuple[TaskRecord, ...]

    def __post_init__(self) -> None:
        check_model_config(self.model)
        names = [task.name for task in self.tasks]
        require(len(names) > 0, "there is no task")
        require(len(set(names)) == len(names), f"a task occurs twice: {', '.join(names)}")


@dataclass(frozen=True)
class NativeModel:
    """A model file's content."""

    header: NativeHeader  # model configuration and tasks
    weights: Mapping[str, torch.Tensor]  # the model's state dict, as inference uses it
    references: Mapping[str, torch.Tensor]  # [elements] eV per atom, by task name


def as_checkpoint(content: NativeModel) -> MLIPInferenceCheckpoint:
    """The checkpoint that fairchem would have unpickled."""
    averaged = {f"module.{name}": value for name, value in content.weights.items()}
    return MLIPInferenceCheckpoint(
        model_config=deepcopy(content.header.model),
        model_state_dict=dict(content.weights),
        # fairchem wants the counter, and uses it in training only.
        ema_state_dict={"n_averaged": torch.tensor(0), **averaged},
        tasks_config=[
            task_config(task, content.references.get(task.name)) for task in content.header.tasks
        ],
    )


def task_config(task: TaskRecord, references: torch.Tensor | None) -> dict[str, Any]:
    """fairchem's config of a task."""
    target = "_target_"
    config: dict[str, Any] = {
        target: f"{UNIT}.Task",
        "name": task.name,
        "level": task.level,
        "property": task.property,
        "out_spec": {target: f"{UNIT}.OutputSpec", "dim": list(task.dim), "dtype": task.dtype},
        "normalizer": {
            target: f"{NORMALIZATION}.normalizer.Normalizer",
            "mean": task.mean,
            "rmsd": task.rmsd,
        },
        "element_references": None,
        "datasets": list(task.datasets),
    }
    if references is not None and references.dtype == torch.float64 and task.dtype == "float64":
        # Of energies that were trained in float64, and are predicted in it.
        values = by_symbol(references[: len(chemical_symbols)].numpy())
        config["element_references"] = {target: EXACT_REFERENCES, "values": values}
    elif references is not None:
        # Numbers of a config are double, and become what fairchem's settings ask for; a float32
        # tensor was one from the start, and stays it.
        numbers = {target: "torch.tensor", "_convert_": "all", "data": references.tolist()}
        config["element_references"] = {
            target: f"{NORMALIZATION}.element_references.ElementReferences",
            "element_references": numbers if references.dtype == torch.float64 else references,
        }
    return config


def check_weights(
    weights: Mapping[str, torch.Tensor], model_config: dict[str, Any], exact_types: bool = True
) -> None:
    """Weights must be those of the model: names, shapes and types; nothing is allocated.

    Args:
        model_config: checked, see `check_model_config`.
        exact_types: refuse another precision, too.

    Raises:
        ValueError: lists what does not fit, and a degree in the config that is not the weights';
            or options that contradict each other.
    """
    backbone = model_config["backbone"]
    layers = backbone.get("num_layers", 0)
    require(layers <= len(weights), f"num_layers={layers} with {len(weights)} weights in the file")
    options = {key: value for key, value in model_config.items() if key != "_target_"}
    try:
        with torch.device("meta"):
            expected = class_of(MODELS[0])(**options).state_dict()
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"no model can be made of its configuration: {error}") from error

    def form(value: torch.Tensor) -> tuple[list[int], Any]:
        kind = value.dtype if exact_types else value.is_floating_point()
        return list(value.shape), kind

    found = {
        "missing": [name for name in expected if name not in weights],
        "not used": [name for name in weights if name not in expected],
        "other shape or type": [
            f"{name} ({list(weights[name].shape)} {weights[name].dtype} in the file, not "
            f"{list(value.shape)} {value.dtype})"
            for name, value in expected.items()
            if name in weights and form(weights[name]) != form(value)
        ],
    }
    if not any(found.values()):
        return
    lines = ["the weights do not fit the model that the config describes"]
    actual, lmax = _lmax_of(weights), backbone.get("lmax")
    if None not in (actual, lmax) and actual != lmax:
        lines.append(f"the config says lmax={lmax}, the weights are of lmax={actual}")
    lines += [f"{what} ({len(n)}): {listed(n, 8)}" for what, n in found.items() if n]
    raise ValueError("\n  ".join(lines))


def _lmax_of(weights: Mapping[str, torch.Tensor]) -> int | None:
    """Maximum degree by a weight with one matrix per degree."""
    for name, value in weights.items():
        if name.endswith("feed_forward.linear_2.weight") and value.ndim == 3:
            return value.shape[0] - 1
    return None
