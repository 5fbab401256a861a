"""The DeNS training unit: fairchem's, with corrupted batches (Algorithm 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from fairchem.core.common import distutils
from fairchem.core.common.distutils import get_device_for_local_rank
from fairchem.core.common.registry import registry
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.units.mlip_unit.mlip_unit import MLIPTrainEvalUnit
from torchtnt.framework.state import State

from eqv2_plugin.common.ranks import step_seed
from eqv2_plugin.dens.checks import check_denoising_batch, check_denoising_tasks
from eqv2_plugin.dens.config import DenoisingConfig
from eqv2_plugin.dens.corruption import NOISE_TARGET, Corruption, corrupt_batch, draw_corruption
from eqv2_plugin.dens.encoding import draw_everywhere, noise_with_and_without
from eqv2_plugin.dens.monitor import DenoisingMonitor

# Structures per rank of which every validation asks whether encoded forces are used.
_STRUCTURES_ASKED = 64


@registry.register_trainer("equiformer_v2_dens")
class EquiformerV2DeNSUnit(MLIPTrainEvalUnit):
    """Trains energies and forces together with the noise of partially corrupted structures.

    `train_step` corrupts the batch and calls that of fairchem's unit. Evaluation sees batches as
    they are; of the first of them it also predicts the noise of a fixed corruption, with encoded
    forces and without, for the report.

    Args:
        denoising: options of `DenoisingConfig`.
        **kwargs: of `MLIPTrainEvalUnit`; ``tasks`` must hold "energy", "forces" and
            "noise_forces", each with a `DenoisingLoss`.

    Raises:
        ValueError: options out of range, a missing task or head, or other losses.
    """

    def __init__(self, denoising: Mapping[str, Any], **kwargs: Any) -> None:
        self.denoising = DenoisingConfig.from_options(dict(denoising))
        check_denoising_tasks(kwargs["tasks"], kwargs["model"], self.denoising)
        super().__init__(**kwargs)
        self.tasks_by_name = {task.name: task for task in self.tasks}
        for task in self.tasks:
            task.loss_fn.to(get_device_for_local_rank())
            task.loss_fn.level = task.level
        self.monitor = DenoisingMonitor()
        self._asked = 0

    def train_step(self, state: State, data: AtomicData) -> None:
        """One step on the corrupted batch."""
        # On the CPU, where the data loader left the batch: on a GPU some of it would have to wait.
        check_denoising_batch(data)
        step = self.train_progress.num_steps_completed
        corruption = self.draw(data, step)
        corrupted = self.corrupt(data, corruption)
        loop = state.train_state
        epoch = len(loop.dataloader)
        total = loop.max_epochs * epoch if loop.max_steps is None else loop.max_steps
        lambda_dens = self.denoising.coefficient_at(step, total, epoch)
        self.tasks_by_name[NOISE_TARGET].loss_fn.coefficient.fill_(lambda_dens)
        super().train_step(state, corrupted)
        device = get_device_for_local_rank()
        self.monitor.update(data.to(device), corruption.to(device), self.tasks_by_name)

    def on_eval_epoch_start(self, state: State) -> None:
        """See fairchem's unit."""
        super().on_eval_epoch_start(state)
        self._asked = 0

    def eval_step(self, state: State, data: AtomicData) -> None:
        """As fairchem's, and whether encoded forces are used."""
        super().eval_step(state, data)
        if not self.denoising.encode_forces or self._asked >= _STRUCTURES_ASKED:
            return
        # "2": other numbers than those of training steps.
        seed = step_seed(self.job_config.seed + 2, distutils.get_rank(), self._asked)
        self._asked += len(data.natoms)
        corruption = draw_everywhere(self.denoising, data, seed)
        device, model = get_device_for_local_rank(), self.eval_unit.model
        while hasattr(model, "module"):  # of EMA and DDP
            model = model.module
        data, corruption = data.to(device), corruption.to(device)
        noises = noise_with_and_without(model, data, corruption, self.denoising)
        self.monitor.update_encoding(corruption, *noises)

    def draw(self, data: AtomicData, step: int) -> Corruption:
        """The corruption of a batch at a step, the same on every call."""
        # "1" keeps these numbers apart from the dropout's, seeded from the same key.
        seed = step_seed(self.job_config.seed + 1, distutils.get_rank(), step)
        generator = torch.Generator().manual_seed(seed)
        return draw_corruption(self.denoising, data, generator)

    def corrupt(self, data: AtomicData, corruption: Corruption) -> AtomicData:
        """The batch to train on, a copy, see `corrupt_batch`."""
        return corrupt_batch(data, corruption, self.denoising)
