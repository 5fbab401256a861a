"""Dropout that is the same after a resume."""

from __future__ import annotations

import torch
from fairchem.core.common import distutils
from torchtnt.framework.callback import Callback
from torchtnt.framework.state import State
from torchtnt.framework.unit import TTrainUnit

from eqv2_plugin.common.ranks import step_seed


class SeedEveryStep(Callback):
    """Seeds torch before each step from (seed, rank, step).

    Checkpoints do not hold the state of random number generators. With this, a resumed
    run draws the same dropout masks as an uninterrupted one, and ranks draw different
    ones.

    Args:
        seed: the job's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_step_start(self, state: State, unit: TTrainUnit) -> None:
        step = unit.train_progress.num_steps_completed
        torch.manual_seed(step_seed(self.seed, distutils.get_rank(), step))
