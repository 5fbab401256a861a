"""The training runner of fine-tuning: small data sets are checked frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from fairchem.core.datasets.mt_concat_dataset import ConcatDataset
from fairchem.core.units.mlip_unit.mlip_unit import Task
from torch import nn

from eqv2_plugin.training.checks import refuse_stress_without_volume
from eqv2_plugin.training.element_checks import check_elements, sid_of
from eqv2_plugin.training.runner import EquiformerV2TrainRunner


class FinetuningRunner(EquiformerV2TrainRunner):
    """`EquiformerV2TrainRunner` that reads every frame once before the first step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        unit = self.train_eval_unit
        model = getattr(unit.model, "module", unit.model)
        check_gradient_scales(model, unit.tasks)
        for loader in (self.train_dataloader, self.eval_dataloader):
            check_frames(loader.dataset, unit.tasks, model.backbone.config.max_num_elements)


def check_gradient_scales(model: nn.Module, tasks: Sequence[Task]) -> None:
    """Forces and stress that are gradients share the energy's scale, and have no mean.

    Raises:
        ValueError: another normaliser.
    """
    if model.backbone.config.direct_forces:
        return
    by_property = {task.property: task.normalizer for task in tasks}
    scale = float(by_property["energy"].rmsd)
    for label in ("forces", "stress"):
        normalizer = by_property.get(label)
        if normalizer is None:
            continue
        if float(normalizer.mean) != 0.0 or abs(float(normalizer.rmsd) - scale) > 1e-6 * scale:
            raise ValueError(
                f"the {label} of a conservative model are a gradient of the energy: their "
                f"normaliser must have mean 0 and the energy's rmsd ({scale:g}), but has mean "
                f"{float(normalizer.mean):g} and rmsd {float(normalizer.rmsd):g}"
            )


def check_frames(datasets: ConcatDataset, tasks: Sequence[Task], max_num_elements: int) -> None:
    """Every frame must have what the tasks need, and elements that the model knows.

    Args:
        datasets: of training or validation.
        tasks: of the run.
        max_num_elements: of the checkpoint's backbone.

    Raises:
        ValueError: a missing or infinite label, a stress without volume, an element beyond the
            model's, or one without element reference; names the first such frame.
    """
    for name, dataset in zip(datasets.dataset_names, datasets.datasets, strict=True):
        for index in range(len(dataset)):
            frame = dataset[index]
            where = f"{name}, frame {index} ({sid_of(frame)})"
            check_elements(frame.atomic_numbers.numpy(), tasks, max_num_elements, where)
            refuse_stress_without_volume(frame, tasks, where)
            for task in tasks:
                if not task.datasets:
                    continue  # its labels are made by the training unit (DeNS)
                if task.name not in frame:
                    raise ValueError(f"{where} has no label {task.name!r}: remove or mend it")
                if not bool(torch.isfinite(frame[task.name]).all()):
                    raise ValueError(f"{where} has a label {task.name!r} that is not finite")
