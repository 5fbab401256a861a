"""Sizes of models for one's own data, and which one suits how many frames."""

from __future__ import annotations

import dataclasses
import math
from importlib.resources import files
from typing import Any

import yaml

from eqv2_plugin.backbones.equiformer_v2.config import EquiformerV2Config
from eqv2_plugin.common.options import did_you_mean

AUTO = "auto"
# The smallest size whose number of training frames is not exceeded; the largest is never chosen.
LIMITS = {"tiny": 2_000, "small": 20_000, "medium": 200_000, "31M": math.inf, "83M": math.inf}


def size_options(
    size: str, frames: int, epochs: int | None, batch_size: int | None
) -> dict[str, Any]:
    """What a recipe takes from a size: a key of ``LIMITS``, or ``auto``.

    Args:
        frames: number of training frames.
        epochs, batch_size: None for the size's own.

    Returns:
        ``name``, ``backbone`` (all options of `EquiformerV2Config`), ``batch_size``,
        ``learning_rate`` and ``epochs``.
    """
    name = str(size)
    if name == AUTO:
        name = next(size for size, limit in LIMITS.items() if frames <= limit)
    if name not in LIMITS:
        raise ValueError(f"size={name}: there is no such size{did_you_mean(name, [AUTO, *LIMITS])}")
    text = (files("eqv2_plugin.configs") / "sizes" / f"{name}.yaml").read_text(encoding="utf-8")
    options = yaml.safe_load(text)
    batch = min(options["batch_size"], frames) if batch_size is None else batch_size
    if not isinstance(batch, int) or batch < 1:
        raise ValueError(f"batch_size={batch} must be a whole number of structures, 1 or more")
    if batch > frames:
        raise ValueError(
            f"batch_size={batch} is more than the {frames} training frames: give batch_size="
            f"{frames} or less"
        )
    defaults = EquiformerV2Config()
    backbone = {f.name: getattr(defaults, f.name) for f in dataclasses.fields(defaults)}
    return {
        "name": name,
        "backbone": backbone | options["backbone"],
        "batch_size": batch,
        "learning_rate": options["learning_rate"],
        "epochs": math.ceil(options["steps"] * batch / frames) if epochs is None else epochs,
    }
