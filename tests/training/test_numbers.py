"""Numbers of recipes that cannot be."""

from __future__ import annotations

import math

import pytest

from eqv2_plugin.training.numbers import RANGES, checked_number

GOOD = {
    "epochs": [1, 300],
    "batch_size": [1, 512],
    "learning_rate": [1e-6, 1],
    "clip_grad_norm": [100, None],
    "ema_decay": [0, 0.999, None],
    "evaluate_every_n_steps": [5, None],
    "checkpoint_every_n_steps": [1, "auto"],
    "num_workers": [0, 4],
    "force_coefficient": [0, 100.0],
}
BAD = {
    "epochs": [0, -1, 2.5, "two", None, True],
    "batch_size": [0, -4, "four", None],
    "learning_rate": [0, -1, "fast", math.nan, math.inf],
    "weight_decay": [-1e-3, math.nan],
    "clip_grad_norm": [0, "auto"],
    "ema_decay": [1, -0.1, math.nan],
    "evaluate_every_n_steps": [0],
    "checkpoint_every_n_steps": [0, "often", None],
    "seed": [-1, 0.5],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in GOOD.items() for v in values])
def test_a_good_number_is_passed_on(name, value):
    assert checked_number(name, value) is value


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_a_bad_number_is_named(name, value):
    shown = "null" if value is None else value
    with pytest.raises(ValueError, match=f"^{name}={shown} must be .*{RANGES[name].words[:9]}"):
        checked_number(name, value)
