"""Where a v1 checkpoint keeps its weights, which of them to take, and the references among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from eqv2_plugin.checkpoints.v1.names import from_single_class, rename_v1_key

_LINEAR_REFERENCE = "energy_lin_ref"


@dataclass(frozen=True)
class Layout:
    """What can be told without looking at the model."""

    generation: str  # "OCP 1", "fairchem 1 (loss_fns)" or "fairchem 1"
    prefix: str  # what stands before every parameter's name, e.g. "module.module.".
    training_state: bool  # whether it can be resumed from (step, optimizer)
    averaged: bool  # whether EMA weights lie beside those in use
    averaging: bool  # whether the training kept EMA weights

    def describe(self) -> str:
        """One line."""
        state = "training state" if self.training_state else "no training state"
        prefix = f"parameters below {self.prefix!r}" if self.prefix else "parameters without prefix"
        ema = ", EMA weights beside" if self.averaged else ""
        return f"{self.generation}, {prefix}, {state}{ema}"


def recognise(checkpoint: Any, where: str) -> Layout:
    """Layout of what `read_checkpoint` returned; ``where`` names the file in errors."""
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
    prefix = ""
    while all(key.startswith(prefix + "module.") for key in state):
        prefix += "module."
    return Layout(
        generation=_generation(checkpoint, config),
        prefix=prefix,
        training_state=any(checkpoint.get(key) is not None for key in ("optimizer", "step")),
        averaged=checkpoint.get("ema") is not None,
        averaging=isinstance(optim, Mapping) and optim.get("ema_decay") is not None,
    )


def _generation(checkpoint: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    normalizers = checkpoint.get("normalizers") or {}
    if isinstance(config.get("model"), str) or "target" in normalizers:
        return "OCP 1"
    return "fairchem 1 (loss_fns)" if "loss_fns" in config else "fairchem 1"


@dataclass(frozen=True)
class Weights:
    """Weights under v1's names without prefix, ``kind`` as files say it, and the reason."""

    state: dict[str, torch.Tensor]
    kind: str
    reason: str

    @property
    def name(self) -> str:
        """The kind for people."""
        return WEIGHT_NAMES[self.kind]


WEIGHT_NAMES = {"ema": "EMA", "raw": "non-EMA"}


def default_kind(layout: Layout) -> tuple[str, str]:
    """What fairchem-core 1's calculator used ("ema" or "raw"), and why."""
    if layout.training_state or layout.averaged:
        other = "; --weights ema takes the EMA weights" if layout.averaged else ""
        return "raw", (
            "a training checkpoint: fairchem-core 1's calculator ignores 'ema' and uses the "
            f"weights of 'state_dict'{other}"
        )
    if layout.averaging:
        return "ema", (
            "saved without training state by a run with ema_decay: fairchem-core 1 wrote the "
            "EMA weights into 'state_dict' of such files (best_checkpoint.pt, releases)"
        )
    return "raw", "the only weights there are, of a run without ema_decay"


def choose_weights(
    checkpoint: Mapping[str, Any], layout: Layout, requested: str | None, single_class: bool
) -> Weights:
    """The requested weights, else those of `default_kind`."""
    # Data-parallel wrappers put the prefix before each name.
    stored = checkpoint["state_dict"].items()
    state = {key.removeprefix(layout.prefix): value for key, value in stored}
    kind, reason = default_kind(layout)
    if requested is None or (requested == kind and not layout.averaged):
        return Weights(state, kind, reason)
    if requested == "raw":
        if not (layout.training_state or layout.averaged):
            raise ValueError(
                f"non-EMA weights asked for, but this file holds EMA weights only ({reason})"
            )
        return Weights(state, "raw", "asked for")
    if not layout.averaged:
        raise ValueError(f"EMA weights asked for, but there are none: {reason}")
    averaged = _averaged(checkpoint["ema"], state, single_class)
    return Weights(averaged, "ema", "asked for; taken from 'ema'")


def _averaged(
    ema: Mapping[str, Any], state: dict[str, torch.Tensor], single_class: bool
) -> dict[str, torch.Tensor]:
    """v1 lists EMA weights without names, in the order of the trained parameters."""
    shadow = ema.get("shadow_params") if isinstance(ema, Mapping) else None
    if not isinstance(shadow, list):
        raise ValueError("EMA weights asked for, but 'ema' has no list 'shadow_params'")
    inner = dict(zip(state, from_single_class(state) if single_class else state, strict=True))
    names = [
        name
        for name in state
        if not name.endswith(_LINEAR_REFERENCE) and rename_v1_key(inner[name]) is not None
    ]
    if len(names) != len(shadow):
        raise ValueError(
            f"'ema' has {len(shadow)} tensors, but the model has {len(names)} trained parameters"
        )
    averaged = dict(state)
    for name, value in zip(names, shadow, strict=True):
        if value.shape != state[name].shape:
            raise ValueError(
                f"'ema' does not fit: {name} has shape {list(state[name].shape)}, its average "
                f"{list(value.shape)}"
            )
        averaged[name] = value
    return averaged


def take_linear_reference(
    state: Mapping[str, torch.Tensor],
    backbone: Mapping[str, Any],
    single_class: bool,
    wanted: str | None,
) -> tuple[dict[str, torch.Tensor], torch.Tensor | None, bool]:
    """The weights without ``energy_lin_ref``, those references per element if there are some (in
    units of the energy's normaliser), and whether the energy has them added.

    The single class of v1 added them where ``use_energy_lin_ref`` was set; its hydra model
    held them and never added them. ``wanted`` is --energy-reference.

    Raises:
        ValueError: config and checkpoint disagree, or only the user can tell.
    """
    rest = {k: v for k, v in state.items() if k.rsplit(".", 1)[-1] != _LINEAR_REFERENCE}
    found = [value for key, value in state.items() if key not in rest]
    used = bool(backbone.get("use_energy_lin_ref"))
    if not found:
        if used or backbone.get("load_energy_lin_ref"):
            raise ValueError(
                "energy reference in conflict: the config says that the model holds linear "
                "references (use_energy_lin_ref or load_energy_lin_ref), but there is no "
                f"{_LINEAR_REFERENCE!r} among the weights"
            )
        return rest, None, False
    if not backbone.get("load_energy_lin_ref") and not used:
        raise ValueError(
            f"energy reference in conflict: the weights hold {_LINEAR_REFERENCE!r}, but the config "
            "does not mention it (load_energy_lin_ref, use_energy_lin_ref)"
        )
    decided = wanted in ("total", "total_linear", "linear_residual")
    if used and not single_class and not decided:
        raise ValueError(
            f"the config asks to add {_LINEAR_REFERENCE!r}, which fairchem-core 1's hydra model "
            "never did: pass --energy-reference total_linear for energies with it, "
            "linear_residual for its numbers"
        )
    return rest, found[0], wanted != "linear_residual" if decided else used
