"""Learning rates per epoch."""

from __future__ import annotations

import math

import pytest
import torch

from eqv2_plugin.training.schedule import epoch_cosine

SETTINGS = {"epochs": 8, "warmup_epochs": 2, "least": 1e-6}


def optimizer(lr: float = 5e-4) -> torch.optim.Optimizer:
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def test_rates_are_the_published_ones_and_change_between_epochs_alone():
    chosen = optimizer()
    schedule = epoch_cosine(3, chosen, **SETTINGS)
    rates = []
    for _ in range(3 * 8):
        rates.append(chosen.param_groups[0]["lr"])
        chosen.step()
        schedule.step()
    by_epoch = [rates[3 * epoch : 3 * epoch + 3] for epoch in range(8)]
    assert all(len(set(same)) == 1 for same in by_epoch)
    # Rises linearly from 1e-6; then the cosine of a whole run, of which the warm-up is a part.
    wanted = [1e-6, (1e-6 + 5e-4) / 2]
    wanted += [1e-6 + (5e-4 - 1e-6) * (1 + math.cos(math.pi * e / 8)) / 2 for e in range(2, 8)]
    assert [rate for rate, *_ in by_epoch] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(
    ("lr", "changes", "message"),
    [
        (5e-4, {"warmup_epochs": 8}, "warmup_epochs=8 must be fewer than the run's epochs=8"),
        (1e-7, {}, "learning_rate=1e-07 must be 1e-06 or more"),
    ],
)
def test_what_cannot_be_is_refused(lr, changes, message):
    with pytest.raises(ValueError, match=message):
        epoch_cosine(3, optimizer(lr), **{**SETTINGS, **changes})
