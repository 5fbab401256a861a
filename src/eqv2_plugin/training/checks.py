"""Checks before the first step, each with an error that names cause and mend."""

from __future__ import annotations

from collections.abc import Sequence

from fairchem.core.datasets.mt_concat_dataset import ConcatDataset
from fairchem.core.units.mlip_unit.mlip_unit import Task
from torch import nn


def check_tasks_match_heads(model: nn.Module, tasks: Sequence[Task]) -> None:
    """Every task needs the output of its name, and every head a task.

    A head that no loss reaches breaks data-parallel training.

    Raises:
        ValueError: a task without head, or a head without task.
    """
    heads, names = model.output_names, {task.name for task in tasks}
    if names - heads:
        raise ValueError(
            f"task(s) {sorted(names - heads)} have no head of the same name; heads: {sorted(heads)}"
        )
    if heads - names:
        raise ValueError(
            f"head(s) {sorted(heads - names)} have no task of the same name, so nothing trains "
            "them: add a task or remove the head"
        )


def check_labels(datasets: ConcatDataset, tasks: Sequence[Task]) -> None:
    """The first frame of every split must hold the label of every task.

    Raises:
        ValueError: a label is missing.
    """
    for name, dataset in zip(datasets.dataset_names, datasets.datasets, strict=True):
        frame = dataset[0]
        for task in tasks:
            # A task of no data set has labels that the training unit makes (DeNS).
            if task.datasets and task.name not in frame:
                raise ValueError(
                    f"the data set {name} has no label {task.name!r}: training needs the labels "
                    f"{', '.join(t.name for t in tasks if t.datasets)}. For ase_db data write them "
                    "with a SinglePointCalculator, and check key_mapping"
                )
