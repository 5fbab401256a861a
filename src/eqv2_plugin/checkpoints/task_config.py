"""fairchem's config of a task, checked word for word, as what inference needs of it."""

from __future__ import annotations

from typing import Any

import torch

from eqv2_plugin.checkpoints.record import (
    EXACT_REFERENCES,
    NORMALIZATION,
    UNIT,
    TaskRecord,
    task_record,
)
from eqv2_plugin.checkpoints.whitelist import allowed, require
from eqv2_plugin.data.references import (
    element_references,
    exact_references,
    written_out_references,
)

TASKS = (f"{UNIT}.Task",)
OUTPUT_SPECS = (f"{UNIT}.OutputSpec",)
LOSSES = (
    *(
        f"fairchem.core.modules.loss.{name}"
        for name in ("DDPMTLoss", "MAELoss", "MSELoss", "PerAtomMAELoss", "L2NormLoss", "DDPLoss")
    ),
    "eqv2_plugin.dens.losses.DenoisingLoss",
)
NORMALIZERS = (
    "eqv2_plugin.data.references.normalizer",
    f"{NORMALIZATION}.normalizer.Normalizer",
)
_BY_NAME, _WRITTEN_OUT, _EXACT, _PLAIN = REFERENCES = (
    "eqv2_plugin.data.references.element_references",
    "eqv2_plugin.data.references.written_out_references",
    EXACT_REFERENCES,
    f"{NORMALIZATION}.element_references.ElementReferences",
)
_REQUIRED = {"_target_", "name", "level", "property", "out_spec", "normalizer", "datasets"}
_FLAGS = ("train_on_free_atoms", "eval_on_free_atoms", "inference_only")
_OPTIONAL = {"loss_fn", "element_references", "metrics", *_FLAGS}
_LOSS_KEYS = {"loss_fn", "coefficient", "reduction", "normalization", "loss_name"}
_MAX_ELEMENTS = 1_000


def read_task(
    config: Any, where: str, unsafe: bool = False
) -> tuple[TaskRecord, torch.Tensor | None]:
    """What inference needs of a task, and its element references in eV, if it has some.

    Losses and metrics serve training only. They are checked, too, since fairchem would make
    objects of them, and left behind.

    Args:
        config: plain data, see `plain_config`.
        unsafe: ask nothing about what is left behind.
    """
    require(isinstance(config, dict), f"{where} must be a mapping with the keys of a task")
    missing = sorted(_REQUIRED - set(config))
    require(not missing, f"{where} lacks {', '.join(missing)}")
    where = f"task {str(config['name'])[:80]!r}"
    if not unsafe:
        _check_task(config, where)
    mean, rmsd = _moments(config["normalizer"], f"{where}: normalizer")
    references = config.get("element_references")
    if references is not None:
        references = _references(references, f"{where}: element_references")
    kept = {key: config[key] for key in ("name", "level", "property", "datasets")}
    spec = {key: config["out_spec"][key] for key in ("dim", "dtype")}
    numbers = {"mean": mean, "rmsd": rmsd, "has_references": references is not None}
    return task_record({**kept, **spec, **numbers}), references


def _check_class(config: Any, classes: tuple[str, ...], keys: set[str], where: str) -> None:
    """A mapping that names one of the classes, and no other keys than these."""
    require(isinstance(config, dict), f"{where} must be a mapping that names a class")
    allowed(config.get("_target_"), classes, where)
    unknown = sorted(set(config) - keys - {"_target_", "_convert_"})
    require(not unknown, f"{where} has unknown keys: {', '.join(unknown)}")


def _check_task(config: dict[str, Any], where: str) -> None:
    _check_class(config, TASKS, _REQUIRED | _OPTIONAL, where)
    spec = config["out_spec"]
    require(
        isinstance(spec, dict) and set(spec) - {"_target_"} == {"dim", "dtype"},
        f"{where}: out_spec must have dim and dtype, and nothing else",
    )
    allowed(spec.get("_target_", OUTPUT_SPECS[0]), OUTPUT_SPECS, f"{where}: out_spec")
    for flag in _FLAGS:
        require(type(config.get(flag, True)) is bool, f"{where}: {flag} must be true or false")
    metrics = config.get("metrics") or []
    require(
        isinstance(metrics, list) and all(isinstance(metric, str) for metric in metrics),
        f"{where}: metrics must be a list of names",
    )
    if config.get("loss_fn") is not None:
        _check_loss(config["loss_fn"], f"{where}: loss_fn")


def _check_loss(loss: Any, where: str) -> None:
    _check_class(loss, LOSSES, _LOSS_KEYS, where)
    for key, value in loss.items():
        if key == "loss_fn":
            _check_loss(value, f"{where}.loss_fn")
        else:
            simple = value is None or isinstance(value, (bool, int, float, str))
            require(simple, f"{where}: {key} must be one number or text")


def _moments(config: Any, where: str) -> tuple[float, float]:
    _check_class(config, NORMALIZERS, {"mean", "rmsd"}, where)
    mean, rmsd = (
        _number(_values(config.get(key, default), NORMALIZERS, f"{where}.{key}"))
        for key, default in (("mean", 0.0), ("rmsd", 1.0))
    )
    return mean, rmsd


def _references(config: Any, where: str) -> torch.Tensor:
    _check_class(config, REFERENCES, {"name", "values", "element_references"}, where)
    if config["_target_"] == _BY_NAME:
        name = config.get("name")
        require(isinstance(name, str), f"{where}: name must be text")
        return element_references(name).element_references
    if config["_target_"] in (_WRITTEN_OUT, _EXACT):
        values = config.get("values")
        require(isinstance(values, dict), f"{where}: values must be a mapping")
        make = exact_references if config["_target_"] == _EXACT else written_out_references
        return make(values).element_references
    tensor = _values(config.get("element_references"), REFERENCES, where)
    require(
        tensor.ndim == 1 and len(tensor) <= _MAX_ELEMENTS and tensor.is_floating_point(),
        f"{where} must be a list of numbers, but have shape {tuple(tensor.shape)} and type "
        f"{tensor.dtype}",
    )
    return tensor


def _values(value: Any, classes: tuple[str, ...], where: str) -> torch.Tensor:
    """A number, numbers within ``torch.tensor``, or a tensor."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, dict):
        _check_class(value, (*classes, "torch.tensor"), {"data"}, where)
        value = value.get("data")
    numbers = value if isinstance(value, list) else [value]
    only_numbers = all(type(n) in (int, float) and not abs(n) > 1e300 for n in numbers)
    require(only_numbers, f"{where} needs numbers, got {str(value)[:80]!r}")
    # The numbers of a config are double; fairchem rounds them to its settings' precision.
    return torch.tensor(value, dtype=torch.float64)


def _number(value: torch.Tensor) -> float:
    count = value.numel()
    require(count == 1, f"a normaliser must hold one number, and holds {count}")
    return float(value)
