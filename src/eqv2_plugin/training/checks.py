"""Checks before the first step, each with an error that names cause and mend."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.datasets.mt_concat_dataset import ConcatDataset
from fairchem.core.units.mlip_unit.mlip_unit import Task
from torch import nn

from eqv2_plugin.data.inspection.findings import Finding, Verdict
from eqv2_plugin.data.inspection.frames import frame_of_data
from eqv2_plugin.data.inspection.stress import StressCheck

# Frames per split that are read before the first step.
FRAMES_READ = 1000


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


def refuse_stress_without_volume(frame: AtomicData, tasks: Sequence[Task], where: str) -> None:
    """A stress is learned of structures that are periodic in three directions, and no others.

    Raises:
        ValueError: the frame has another periodicity, and stress is trained; begins with ``where``.
    """
    learned = [task.name for task in tasks if "stress" in task.name and task.datasets]
    if learned and not bool(frame.pbc.all()):
        raise ValueError(
            f"{where} is periodic along {frame.pbc[0].tolist()}: without three periodic directions "
            f"it has no volume, hence no {learned[0]!r} to learn; remove it, or train without it"
        )


def check_labels(datasets: ConcatDataset, tasks: Sequence[Task]) -> None:
    """What can be known of the labels before the first step.

    Of each split up to 1000 frames, evenly spaced, are read: the first must hold the label of
    every task, none may have labels that contradict each other, and stress that is trained
    must be possible (`StressCheck`).

    Raises:
        ValueError: a label is missing, contradicted by another one, or impossible, such as the
            stress of a structure without volume.
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
        stress = StressCheck()
        for index in np.linspace(0, len(dataset) - 1, min(len(dataset), FRAMES_READ)).astype(int):
            frame = dataset[int(index)]  # its reader refuses contradictions
            refuse_stress_without_volume(frame, tasks, f"{name}, frame {index}")
            if any(task.name == "stress" for task in tasks):
                stress.add(frame_of_data(frame, int(dataset.indices[index])))
        if stress.frames:
            _judge(name, stress.findings())


def _judge(name: str, findings: Sequence[Finding]) -> None:
    for finding in findings:
        text = f"the data set {name}: {finding.check}: {finding.text}"
        if finding.verdict is Verdict.BAD:
            raise ValueError(f"{text}. Mend the labels; `eqv2 data check` looks at every frame")
        if finding.verdict is Verdict.LOOK:
            logging.warning("%s", text)
