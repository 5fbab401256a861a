"""Learning rates that change once per epoch."""

from __future__ import annotations

import math

import torch


def epoch_cosine(
    n_iters_per_epoch: int,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    warmup_epochs: int,
    least: float,
) -> torch.optim.lr_scheduler.LambdaLR:
    """The schedule of the published Equiformer code for MD17; fairchem steps it once per batch.

    Epoch e, counted from 0, has least + (lr - least) e / ``warmup_epochs`` in the warm-up, and then
    least + (lr - least) (1 + cos(pi e / ``epochs``)) / 2.

    Args:
        n_iters_per_epoch: steps of an epoch.
        optimizer: with the largest rate, lr.
        epochs: of the whole run.
        warmup_epochs: of them, at the beginning.
        least: rate at the beginning and towards the end.

    Raises:
        ValueError: no epochs are left after the warm-up, or lr is below ``least``.
    """
    if not 0 <= warmup_epochs < epochs:
        raise ValueError(
            f"warmup_epochs={warmup_epochs} must be fewer than the run's epochs={epochs}"
        )
    lowest = min(group["lr"] for group in optimizer.param_groups)
    if lowest < least:
        raise ValueError(f"learning_rate={lowest:g} must be {least:g} or more")

    def factor(lr: float, step: int) -> float:
        epoch = step // n_iters_per_epoch
        share = (
            epoch / warmup_epochs
            if epoch < warmup_epochs
            else 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))
        )
        return (least + (lr - least) * share) / lr

    rates = [float(group["lr"]) for group in optimizer.param_groups]
    factors = [lambda step, lr=lr: factor(lr, step) for lr in rates]
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
