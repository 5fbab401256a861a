"""Which of a checkpoint's weights to take: those in use, or their average over training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from eqv2_plugin.checkpoints.v1.layout import Layout, strip_prefix
from eqv2_plugin.checkpoints.v1.names import rename_v1_key

_LINEAR_REFERENCE = "energy_lin_ref"


@dataclass(frozen=True)
class Weights:
    """Weights under v1's names without prefix, ``kind`` ("ema" or "raw"), and the reason."""

    state: dict[str, torch.Tensor]
    kind: str
    reason: str


def default_kind(layout: Layout) -> tuple[str, str]:
    """What fairchem-core 1's calculator used, and why.

    Returns:
        ("ema" or "raw", reason).
    """
    if layout.training_state or layout.averaged:
        other = "; --weights ema takes the averaged ones" if layout.averaged else ""
        return "raw", (
            "a training checkpoint: fairchem-core 1's calculator ignores 'ema' and uses the "
            f"weights of 'state_dict'{other}"
        )
    if layout.averaging:
        return "ema", (
            "saved without training state by a run with ema_decay: fairchem-core 1 wrote the "
            "averaged weights into 'state_dict' of such files (best_checkpoint.pt, releases)"
        )
    return "raw", "the only weights there are, of a run without ema_decay"


def choose_weights(
    checkpoint: Mapping[str, Any], layout: Layout, requested: str | None, single_class: bool
) -> Weights:
    """The requested weights, else those of `default_kind`.

    Raises:
        ValueError: the file does not have them, or averaged ones that do not fit.
    """
    state = strip_prefix(checkpoint["state_dict"], layout.prefix)
    kind, reason = default_kind(layout)
    if requested is None or (requested == kind and not layout.averaged):
        return Weights(state, kind, reason)
    if requested == "raw":
        if not (layout.training_state or layout.averaged):
            raise ValueError(
                f"raw weights asked for, but this file holds averaged ones only ({reason})"
            )
        return Weights(state, "raw", "asked for")
    if not layout.averaged:
        raise ValueError(f"averaged weights asked for, but there are none: {reason}")
    averaged = _averaged(checkpoint["ema"], state, single_class)
    return Weights(averaged, "ema", "asked for; taken from 'ema'")


def _averaged(
    ema: Mapping[str, Any], state: dict[str, torch.Tensor], single_class: bool
) -> dict[str, torch.Tensor]:
    """v1 lists averaged weights without names, in the order of the trained parameters."""
    shadow = ema.get("shadow_params") if isinstance(ema, Mapping) else None
    if not isinstance(shadow, list):
        raise ValueError("averaged weights asked for, but 'ema' has no list 'shadow_params'")
    names = [name for name in state if _is_trained(name, single_class)]
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


def _is_trained(name: str, single_class: bool) -> bool:
    if name.endswith(_LINEAR_REFERENCE):
        return False
    heads = ("energy_block.", "force_block.")
    if single_class:
        # The heads' names are known below output_heads only.
        inner = f"output_heads.head.{name}" if name.startswith(heads) else f"backbone.{name}"
    else:
        inner = name
    return rename_v1_key(inner) is not None
