"""Weights must fit the model one to one."""

from __future__ import annotations

from collections.abc import Mapping

import torch

_SHOWN = 8


def compare_keys(
    state: Mapping[str, torch.Tensor], model: Mapping[str, torch.Tensor], lmax: int
) -> None:
    """Refuse weights that are missing, not used, or of another shape.

    Args:
        state: weights under our names.
        model: the model's own state dict.
        lmax: of the config.

    Raises:
        ValueError: lists them, and names a degree in the config that does not fit.
    """
    missing = [key for key in model if key not in state]
    unused = [key for key in state if key not in model]
    reshaped = [
        f"{key}: {list(state[key].shape)} in the file, {list(model[key].shape)} by the config"
        for key in model
        if key in state and state[key].shape != model[key].shape
    ]
    if not (missing or unused or reshaped):
        return
    lines = ["the weights do not fit the model that the config describes"]
    actual = _lmax_of(state)
    if actual is not None and actual != lmax:
        lines.append(f"the config says lmax={lmax} (lmax_list), the weights are of lmax={actual}")
    for label, keys in (("missing", missing), ("not used", unused), ("other shape", reshaped)):
        if keys:
            more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
            lines.append(f"{label} ({len(keys)}): " + "; ".join(keys[:_SHOWN]) + more)
    raise ValueError("\n  ".join(lines))


def _lmax_of(state: Mapping[str, torch.Tensor]) -> int | None:
    """Maximum degree by a weight with one matrix per degree."""
    for key, value in state.items():
        if key.endswith("feed_forward.linear_2.weight") and value.ndim == 3:
            return value.shape[0] - 1
    return None
