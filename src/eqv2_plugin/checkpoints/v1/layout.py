"""Which of fairchem-core 1's checkpoint layouts a file has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Layout:
    """What can be told without looking at the model.

    Attributes:
        generation: "OCP 1", "fairchem 1 (loss_fns)" or "fairchem 1".
        prefix: what stands before every parameter's name, e.g. "module.module.".
        training_state: whether it can be resumed from (step, optimizer).
        averaged: whether averaged weights lie beside those in use.
        averaging: whether the training kept averaged weights.
    """

    generation: str
    prefix: str
    training_state: bool
    averaged: bool
    averaging: bool

    def describe(self) -> str:
        """One line."""
        state = "training state" if self.training_state else "no training state"
        prefix = f"parameters below {self.prefix!r}" if self.prefix else "parameters without prefix"
        ema = ", averaged weights (ema)" if self.averaged else ""
        return f"{self.generation}, {prefix}, {state}{ema}"


def recognise(checkpoint: Any, where: str) -> Layout:
    """Layout of a loaded file.

    Args:
        checkpoint: what `read_checkpoint` returned.
        where: names the file in errors.

    Raises:
        ValueError: no checkpoint of fairchem-core 1.
    """
    if type(checkpoint).__name__ == "MLIPInferenceCheckpoint":
        raise ValueError(
            f"{where} is an inference checkpoint of fairchem 2 already; nothing is to be converted"
        )
    if not isinstance(checkpoint, Mapping):
        raise ValueError(
            f"{where} is no checkpoint: it holds one {type(checkpoint).__name__}, not a dictionary "
            "with 'state_dict'"
        )
    state = checkpoint.get("state_dict")
    if not isinstance(state, Mapping) or not state:
        keys = ", ".join(str(key) for key in checkpoint) or "nothing"
        raise ValueError(f"{where} is no checkpoint: it has no 'state_dict' (it has {keys[:200]})")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise ValueError(f"{where}: 'state_dict' must hold tensors, but {key!r} is none")
    config = checkpoint.get("config") or {}
    optim = config.get("optim") if isinstance(config, Mapping) else None
    return Layout(
        generation=_generation(checkpoint, config),
        prefix=_common_prefix(state),
        training_state=any(checkpoint.get(key) is not None for key in ("optimizer", "step")),
        averaged=checkpoint.get("ema") is not None,
        averaging=isinstance(optim, Mapping) and optim.get("ema_decay") is not None,
    )


def strip_prefix(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The state dict without the prefix that data-parallel wrappers put before each name."""
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _generation(checkpoint: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    normalizers = checkpoint.get("normalizers") or {}
    if isinstance(config.get("model"), str) or "target" in normalizers:
        return "OCP 1"
    return "fairchem 1 (loss_fns)" if "loss_fns" in config else "fairchem 1"


def _common_prefix(state: Mapping[str, torch.Tensor]) -> str:
    prefix = ""
    while all(key.startswith(prefix + "module.") for key in state):
        prefix += "module."
    return prefix
