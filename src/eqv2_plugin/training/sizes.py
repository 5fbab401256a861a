"""Sizes of models for one's own data, and which one suits how many frames."""

from __future__ import annotations

import dataclasses
import math
from importlib.resources import files
from typing import Any

import yaml

from eqv2_plugin.backbones.equiformer_v2.config import EquiformerV2Config
from eqv2_plugin.common.options import did_you_mean
from eqv2_plugin.training.numbers import checked_number
from eqv2_plugin.training.start import read_start

AUTO = "auto"
# Of runs from a checkpoint: steps that pay, within so many epochs, and the part of the learning
# rate that a new model of its size begins with.
_STEPS, _EPOCHS, _LEARNING_RATE = 1000, (3, 30), 0.5
# Parameters up to which a checkpoint counts as of this size.
_PARAMETERS = {"tiny": 3e5, "small": 2e6, "medium": 1.5e7, "31M": 5e7, "83M": math.inf}
# Averages of weights reach back over a hundred steps, or a tenth of a shorter run's: over more they
# would hold the first weights.
_EMA_DECAY, _EMA_PART = 0.99, 0.1
# The learning rate rises for a hundred steps, or a tenth of a shorter run.
_WARMUP, _WARMUP_PART = 100, 0.1
# The smallest size whose number of training frames is not exceeded; the largest is never chosen.
LIMITS = {"tiny": 2_000, "small": 20_000, "medium": 200_000, "31M": math.inf, "83M": math.inf}


def size_options(
    size: str,
    frames: int,
    epochs: int | None,
    batch_size: int | None,
    checkpoint: str | None = None,
    unsafe: bool = False,
) -> dict[str, Any]:
    """What a recipe takes from a size: a key of ``LIMITS``, or ``auto``.

    Args:
        frames: number of training frames.
        epochs, batch_size: None for the size's own.
        checkpoint: that the run starts from: its architecture and few epochs, with the batch size
            and half the learning rate of a new model with about as many parameters.

    Returns:
        ``name``, ``backbone`` (all options of `EquiformerV2Config`; None each with a checkpoint),
        ``batch_size``, ``learning_rate``, ``epochs``, ``warmup_epochs`` and ``ema_decay``.

    Raises:
        ValueError: no such size, one beside a checkpoint, or a batch size that cannot be.
    """
    name = str(size)
    if checkpoint is not None:
        if name != AUTO:
            raise ValueError(
                f"size={name} is of a new model, and {checkpoint} has a size: leave out one of them"
            )
        count = read_start(checkpoint, unsafe).parameters
        name = next(size for size, limit in _PARAMETERS.items() if count <= limit)
    elif name == AUTO:
        name = next(size for size, limit in LIMITS.items() if frames <= limit)
    if name not in LIMITS:
        raise ValueError(f"size={name}: there is no such size{did_you_mean(name, [AUTO, *LIMITS])}")
    text = (files("eqv2_plugin.configs") / "sizes" / f"{name}.yaml").read_text(encoding="utf-8")
    options = yaml.safe_load(text)
    batch = min(options["batch_size"], frames) if batch_size is None else batch_size
    if checked_number("batch_size", batch) > frames:
        raise ValueError(
            f"batch_size={batch} is more than the {frames} training frames: give batch_size="
            f"{frames} or less"
        )
    defaults = EquiformerV2Config()
    backbone = {f.name: getattr(defaults, f.name) for f in dataclasses.fields(defaults)}
    if checkpoint is None:
        own, rate = math.ceil(options["steps"] * batch / frames), 1.0
        backbone |= options["backbone"]
    else:
        own, rate = math.ceil(_STEPS * batch / frames), _LEARNING_RATE
        own = min(max(own, _EPOCHS[0]), _EPOCHS[1])
        backbone = dict.fromkeys(backbone)
    epochs = own if epochs is None else checked_number("epochs", epochs)
    return {
        "name": name if checkpoint is None else "checkpoint",
        "backbone": backbone,
        "batch_size": batch,
        "learning_rate": rate * options["learning_rate"],
        "epochs": epochs,
        "warmup_epochs": min(_WARMUP / (frames // batch), _WARMUP_PART * epochs),
        "ema_decay": _ema_decay(epochs, frames // batch),
    }


def _ema_decay(epochs: int, steps: int) -> float:
    """Of a run of epochs of so many steps."""
    return min(_EMA_DECAY, 1 - 1 / max(_EMA_PART * epochs * steps, 1))
