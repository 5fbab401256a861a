"""Training units of experiments that no user needs: one change each to DeNS's own unit."""

from __future__ import annotations

from typing import Any

import torch
from fairchem.core.datasets.atomic_data import AtomicData

from eqv2_plugin.backbones.protocol import ENCODED_FORCES
from eqv2_plugin.common.ranks import step_seed
from eqv2_plugin.dens.corruption import Corruption
from eqv2_plugin.dens.unit import EquiformerV2DeNSUnit


class RescaledStart(EquiformerV2DeNSUnit):
    """The embedding's first weights are multiplied by ``factor``, its forces by nothing."""

    def __init__(self, factor: float, model: torch.nn.Module, **kwargs: Any) -> None:
        with torch.no_grad():
            model.backbone.force_embedding.linear.weight.mul_(factor)
        super().__init__(model=model, **kwargs)


class RandomDirections(EquiformerV2DeNSUnit):
    """Encoded forces of the true size, in directions that say nothing."""

    def corrupt(self, data: AtomicData, corruption: Corruption) -> AtomicData:
        """As the unit's, and then the directions."""
        corrupted = super().corrupt(data, corruption)
        step = self.train_progress.num_steps_completed
        generator = torch.Generator().manual_seed(step_seed(self.job_config.seed + 3, 0, step))
        forces = corrupted[ENCODED_FORCES]
        drawn = torch.randn(forces.shape, generator=generator).to(forces)
        sizes = torch.linalg.vector_norm(forces, dim=1, keepdim=True)
        corrupted[ENCODED_FORCES] = torch.nn.functional.normalize(drawn, dim=1) * sizes
        return corrupted
