"""The DeNS training unit: fairchem's, with corrupted batches (Algorithm 2)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from fairchem.core.common import distutils
from fairchem.core.common.distutils import get_device_for_local_rank
from fairchem.core.common.registry import registry
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.units.mlip_unit.mlip_unit import MLIPTrainEvalUnit
from torchtnt.framework.state import State

from eqv2_plugin.common.ranks import step_seed
from eqv2_plugin.dens.batch import NOISE_TARGET, corrupt_batch
from eqv2_plugin.dens.checks import check_denoising_batch, check_denoising_tasks
from eqv2_plugin.dens.config import DenoisingConfig
from eqv2_plugin.dens.corruption import Corruption, draw_corruption
from eqv2_plugin.dens.monitor import DenoisingMonitor
from eqv2_plugin.heads.conservative import ConservativeHead


@registry.register_trainer("equiformer_v2_dens")
class EquiformerV2DeNSUnit(MLIPTrainEvalUnit):
    """Trains energies and forces together with the noise of partially corrupted structures.

    Only `train_step` differs from fairchem's unit: it corrupts the batch and calls the
    original. Evaluation sees batches as they are.

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
        self.monitor = DenoisingMonitor()
        self._predictions: dict[str, Any] = {}
        # fairchem's train_step keeps its predictions to itself, and calls the model's forward
        # past its hooks; those of the heads run.
        for name, head in kwargs["model"].output_heads.items():
            head.register_forward_hook(partial(self._keep_predictions, name))

    def train_step(self, state: State, data: AtomicData) -> None:
        step = self.train_progress.num_steps_completed
        data = data.to(get_device_for_local_rank())
        corruption = self.draw(data, step)
        noise_loss = self.tasks_by_name[NOISE_TARGET].loss_fn
        noise_loss.coefficient = self.denoising.coefficient_at(step / self._total_steps(state))
        super().train_step(state, corrupt_batch(data, corruption, self.denoising))
        self.monitor.update(self._predictions, data, corruption, self.tasks_by_name)

    def draw(self, data: AtomicData, step: int) -> Corruption:
        """The corruption of a batch at a step, the same on every call.

        Raises:
            ValueError: labels are missing or not finite.
        """
        check_denoising_batch(data)
        # "1" keeps these numbers apart from the dropout's, seeded from the same key.
        seed = step_seed(self.job_config.seed + 1, distutils.get_rank(), step)
        generator = torch.Generator().manual_seed(seed)
        # fairchem calls the data set of a structure "name.split".
        splits = [name.partition(".")[2] for name in data.dataset_name]
        excluded = [split in self.denoising.exclude_splits for split in splits]
        return draw_corruption(
            self.denoising,
            data.batch,
            len(data.natoms),
            data.fixed == 0,
            data.forces,
            torch.tensor(excluded, device=data.pos.device),
            generator,
        )

    def _total_steps(self, state: State) -> int:
        train = state.train_state
        if train.max_steps is not None:
            return train.max_steps
        return train.max_epochs * len(train.dataloader)

    def _keep_predictions(
        self, name: str, head: torch.nn.Module, inputs: Any, outputs: dict[str, Any]
    ) -> None:
        if head.training:
            nested = outputs if isinstance(head, ConservativeHead) else {name: outputs}
            for task, values in nested.items():
                self._predictions[task] = {key: value.detach() for key, value in values.items()}
