"""fairchem's inference checkpoint (``.pt``) as checked, plain data, and as a record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint

from eqv2_plugin.backbones.registered import registered_backbones
from eqv2_plugin.checkpoints.families import refuse_other_family
from eqv2_plugin.checkpoints.plain import check_tensor, plain_config
from eqv2_plugin.checkpoints.reading import UNSAFE_HINT
from eqv2_plugin.checkpoints.record import NativeHeader, NativeModel, check_weights
from eqv2_plugin.checkpoints.task_config import read_task
from eqv2_plugin.checkpoints.whitelist import check_model_config, with_full_names


def plain_checkpoint(content: Any, unsafe: bool = False) -> MLIPInferenceCheckpoint:
    """An unpickled checkpoint with its configuration checked; the checkpoint stays as it is.

    The result has plain data in place of OmegaConf's objects, and classes by their full names.
    """
    if not isinstance(content, MLIPInferenceCheckpoint):
        raise ValueError(
            "this is no inference checkpoint of fairchem 2. Checkpoints of fairchem-core 1 are "
            "converted first: `eqv2 convert OLD.pt NEW.pt`"
        )
    try:
        model = plain_config(getattr(content, "model_config", None), "model_config", not unsafe)
        tasks = plain_config(getattr(content, "tasks_config", None), "tasks_config", not unsafe)
        if not isinstance(model, dict) or not isinstance(tasks, list):
            raise ValueError("its configuration must be a mapping, and its tasks a list")
        model = with_full_names(model)
        if not unsafe:
            _refuse_other_models(model)
            check_model_config(model)
            for index, task in enumerate(tasks):
                read_task(task, f"tasks_config[{index}]")
        states = [getattr(content, f"{kind}_state_dict", None) for kind in ("model", "ema")]
        last, averaged = (_state(state) for state in states)
    except ValueError as error:
        raise ValueError(str(error) if unsafe else f"{error}. {UNSAFE_HINT}") from error
    return MLIPInferenceCheckpoint(model, last, averaged, tasks)


def as_native(content: Any, unsafe: bool = False) -> NativeModel:
    """What prediction needs of an unpickled checkpoint; the checkpoint stays as it is.

    Raises:
        ValueError: another model than ours, no EMA weights, weights that do not fit, or a class,
            key or value that is not allowed.
    """
    checkpoint = plain_checkpoint(content, unsafe)
    if not checkpoint.ema_state_dict:
        raise ValueError(
            "it has no averaged (EMA) weights, and fairchem predicts with nothing else"
        )
    tasks = [
        read_task(config, f"tasks_config[{index}]", unsafe)
        for index, config in enumerate(checkpoint.tasks_config)
    ]
    header = NativeHeader(checkpoint.model_config, tuple(record for record, _ in tasks))
    weights = averaged_weights(checkpoint)
    check_weights(weights, header.model, exact_types=False)
    references = {record.name: values for record, values in tasks if values is not None}
    return NativeModel(header, weights, references)


def averaged_weights(checkpoint: MLIPInferenceCheckpoint) -> dict[str, torch.Tensor]:
    """The EMA weights, which fairchem predicts with, by the model's own names."""
    averaged = {k: v for k, v in checkpoint.ema_state_dict.items() if k != "n_averaged"}
    weights = {re.sub(r"^(module\.)+", "", name): value for name, value in averaged.items()}
    if len(weights) != len(averaged):
        raise ValueError("two of its weights have the same name")
    return weights


def _state(state: Any) -> dict[str, torch.Tensor]:
    """A state dict of ordinary tensors."""
    if state is None:
        return {}
    if not isinstance(state, Mapping):
        raise ValueError(f"its weights are a {type(state).__name__}, no mapping from names")
    for name, value in state.items():
        if type(name) is not str or not isinstance(value, torch.Tensor):
            raise ValueError(f"its weight {str(name)[:80]!r} is no tensor")
        check_tensor(value, f"its weight {name}")
    return dict(state)


def _refuse_other_models(model: dict[str, Any]) -> None:
    backbone = model.get("backbone")
    name = backbone.get("model") if isinstance(backbone, dict) else None
    ours = name in registered_backbones() or str(name).startswith("eqv2_plugin.")
    if isinstance(name, str) and not ours:
        refuse_other_family(name, ())
