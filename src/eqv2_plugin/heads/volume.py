"""Stress exists where there is a volume: in structures that are periodic in three directions."""

from __future__ import annotations

import torch


def where_volume(stress: torch.Tensor, pbc: torch.Tensor, *, training: bool) -> torch.Tensor:
    """``stress`` of the structures that have a volume; NaN, or zero in training, of the others.

    A NaN would survive the mask of a training loss, which multiplies by zero: there the value
    is a zero that no gradient flows through.

    Args:
        stress: [B, ...].
        pbc: [B, 3] bool.
        training: whether the head is being trained.
    """
    periodic = pbc.all(1).view(-1, *[1] * (stress.dim() - 1))
    return torch.where(periodic, stress, 0.0 if training else torch.nan)
