"""A step of DeNS reads nothing back from its device, which on a GPU would make it wait."""

from __future__ import annotations

import pytest
import torch
from dens_inputs import NORMALIZATIONS, config, labelled_batch, random_predictions, tasks
from helpers import generator
from nothing_read_back import NothingReadBack

from eqv2_plugin.dens.corruption import corrupt_batch, draw_corruption
from eqv2_plugin.dens.monitor import DenoisingMonitor

OPTIONS = {
    "sigma_low": 0.01,
    "max_force_norm": 9.0,
    "max_mean_force_norm": 9.0,
    "max_corrupted_fraction": 0.5,
}


def test_the_guard_notices():
    numbers = torch.arange(3)
    for read in (
        lambda: bool(numbers.any()),
        lambda: numbers[numbers > 1],
        lambda: torch.bincount(numbers),
        lambda: numbers.repeat_interleave(numbers),
    ):
        with pytest.raises(AssertionError), NothingReadBack():
            read()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_draws_losses_and_figures_read_nothing_back(normalization):
    data, settings = labelled_batch([4, 3, 5]), config(**OPTIONS)
    predictions, recipe = random_predictions(data), tasks(normalization)
    monitor = DenoisingMonitor()
    with NothingReadBack():
        corruption = draw_corruption(settings, data, generator(0))
    corrupted = corrupt_batch(data, corruption, settings)  # copies, which fairchem checks
    with NothingReadBack():
        for task in recipe:
            task.loss_fn.coefficient.fill_(3.0)
            target = task.normalizer.norm(corrupted[task.name])
            mask = torch.isfinite(target).view(len(target), -1).all(dim=1)
            predicted = predictions[task.name][task.name]
            task.loss_fn(predicted, target, mult_mask=mask, natoms=data.natoms).backward()
        monitor.update(data, corruption, {task.name: task for task in recipe})
    assert monitor.mean_and_reset()["corrupted_fraction_structures"] >= 0
