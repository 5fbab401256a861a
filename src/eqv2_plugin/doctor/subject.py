"""From a file to what the checks need."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from ase import Atoms
from fairchem.core import FAIRChemCalculator

from eqv2_plugin.doctor.examine import Subject
from eqv2_plugin.doctor.predictor import (
    Device,
    Predict,
    UnitPredictor,
    choose_task,
    is_direct,
    known_elements,
    open_unit,
)
from eqv2_plugin.doctor.structures import choose_structures


@dataclass(frozen=True)
class Opened:
    """A model with its structures.

    Attributes:
        subject: for `Examiner`.
        structures: see `choose_structures`.
        origin: where they come from.
        task_name: the data set that is examined.
    """

    subject: Subject
    structures: list[Atoms]
    origin: str
    task_name: str


def open_subject(
    path: Path,
    device: Device,
    task: str | None,
    structures: Path | None,
    unsafe: bool = False,
) -> Opened:
    """Load a model in float32 and float64, and its structures.

    Raises:
        ValueError: see `open_unit`, `choose_task` and `choose_structures`.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no GPU that torch can use; leave out --device cuda")
    unit = open_unit(path, device, torch.float32, unsafe)
    task_name = choose_task(unit, task)
    cutoff = unit.model.module.backbone.config.cutoff
    chosen = choose_structures(structures, task_name, known_elements(unit, task_name), cutoff)
    subject = Subject(
        predict=UnitPredictor(unit, task_name),
        predict_double=_double(path, device, task_name, unsafe),
        calculator=FAIRChemCalculator(unit, task_name=task_name),
        direct=is_direct(unit),
        device=device,
        stress=any(task.property == "stress" for task in unit.dataset_to_tasks[task_name]),
    )
    return Opened(subject, chosen.structures, chosen.origin, task_name)


def _double(path: Path, device: Device, task_name: str, unsafe: bool) -> Predict | str:
    try:
        return UnitPredictor(open_unit(path, device, torch.float64, unsafe), task_name)
    except torch.OutOfMemoryError as error:
        return f"the model does not fit into memory in float64: {error}"
