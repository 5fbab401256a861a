"""Elements of the training data: embedded by the model, and with a reference in every task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.datasets.mt_concat_dataset import ConcatDataset
from fairchem.core.units.mlip_unit.mlip_unit import Task, mt_collater_adapter

from eqv2_plugin.models.known_elements import elements_with_references, without_reference

# Frames per split that are read before the first step; every batch is checked as it comes.
_FRAMES_READ = 1000


def check_elements(
    numbers: np.ndarray, tasks: Sequence[Task], max_num_elements: int, where: str
) -> None:
    """Every element of a frame must be embedded and have a reference.

    Args:
        numbers: [atoms] atomic numbers.
        tasks: of the run.
        max_num_elements: of the model's embedding.
        where: names the frame.

    Raises:
        ValueError: names the elements and says what to do.
    """
    beyond = sorted({int(z) for z in numbers if z >= max_num_elements})
    if beyond:
        raise ValueError(
            f"{where} holds {', '.join(chemical_symbols[z] for z in beyond)}, but the model knows "
            f"elements up to {chemical_symbols[max_num_elements - 1]} "
            f"(max_num_elements={max_num_elements}) only: leave these frames out, or start from "
            "another checkpoint"
        )
    for task in tasks:
        known = elements_with_references([task], max_num_elements)
        _refuse_without_reference(numbers, known, task.name, where)


def check_frames_elements(
    datasets: ConcatDataset, tasks: Sequence[Task], max_num_elements: int
) -> None:
    """`check_elements` of up to 1000 frames of each split, evenly spaced.

    Without element references nothing is read: the model itself refuses elements that it does not
    embed.

    Raises:
        ValueError: see `check_elements`.
    """
    if all(task.element_references is None for task in tasks):
        return
    for name, dataset in zip(datasets.dataset_names, datasets.datasets, strict=True):
        count = min(len(dataset), _FRAMES_READ)
        for index in np.linspace(0, len(dataset) - 1, count).astype(int):
            frame = dataset[int(index)]
            where = f"{name}, frame {index} ({sid_of(frame)})"
            check_elements(frame.atomic_numbers.numpy(), tasks, max_num_elements, where)


class CheckedCollater:
    """fairchem's collater, which refuses frames with an element that has no reference.

    It works where frames are read, so that no step is taken with such a frame and the device waits
    for nothing.

    Args:
        tasks: of the run.

    Raises on a call:
        ValueError: names the frame, the elements and the task.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._collate = mt_collater_adapter(list(tasks))
        self._known = {
            task.name: elements_with_references([task], len(chemical_symbols))
            for task in tasks
            if task.element_references is not None
        }

    def __call__(self, frames: list[AtomicData]) -> Any:
        """One batch of frames."""
        for frame in frames:
            for task, known in self._known.items():
                numbers = frame.atomic_numbers.numpy()
                _refuse_without_reference(numbers, known, task, f"frame {sid_of(frame)}")
        return self._collate(frames)


def sid_of(frame: AtomicData) -> str:
    """The id of a structure, for messages."""
    sid = frame.sid
    return str(sid[0] if isinstance(sid, list) else sid)


def _refuse_without_reference(
    numbers: np.ndarray, known: np.ndarray, task: str, where: str
) -> None:
    lacking = without_reference(numbers, known)
    if lacking:
        raise ValueError(
            f"the element references of task {task!r} have no value for {lacking}, which {where} "
            "holds: fit them on data with these elements (eqv2 data fit-references) and give "
            "references=FILE.npz"
        )
