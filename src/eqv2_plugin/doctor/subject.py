"""From a file to what the checks need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from ase import Atoms
from fairchem.core import FAIRChemCalculator
from fairchem.core.datasets.atomic_data import AtomicData

from eqv2_plugin.doctor.denoising import denoiser
from eqv2_plugin.doctor.examination import Subject
from eqv2_plugin.doctor.structures import choose_structures
from eqv2_plugin.inference.predictor import (
    BatchPredictor,
    Device,
    Predict,
    Prediction,
    choose_task,
    is_direct,
    known_elements,
    near_origin,
    open_unit,
)


class UnitPredictor(BatchPredictor):
    """A `Predict` that does not move atoms into the cell, with numbers in float64."""

    def __call__(self, structures: Sequence[Atoms]) -> list[Prediction]:
        """Predict all structures in one batch."""
        return [
            Prediction(
                p.energy,
                p.forces.astype(float),
                None if p.stress is None else p.stress.astype(float),
            )
            for p in super().__call__(structures)
        ]

    def data(self, atoms: Atoms) -> AtomicData:
        """fairchem's form of one structure, its atoms where they are."""
        bare = Atoms(
            atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, tags=atoms.get_tags()
        )
        bare.info = {key: atoms.info[key] for key in ("charge", "spin") if key in atoms.info}
        data = super().data(bare)
        # from_ase moves atoms into the cell, which would hide what the model does with images.
        data.pos = torch.tensor(near_origin(bare).positions, dtype=self.dtype)
        return data


class Opened(NamedTuple):
    """A model, the structures that it is examined on, where they come from, and its data set."""

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
    """Load a model in float32 and float64, and its structures."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no GPU that torch can use; leave out --device cuda")
    unit = open_unit(path, device, torch.float32, unsafe)
    task_name = choose_task(unit, task)
    cutoff = unit.model.module.backbone.config.cutoff
    chosen, origin = choose_structures(
        structures, task_name, known_elements(unit, task_name), cutoff
    )
    predict = UnitPredictor(unit, task_name)
    subject = Subject(
        predict=predict,
        predict_double=_double(path, device, task_name, unsafe),
        calculator=FAIRChemCalculator(unit, task_name=task_name),
        direct=is_direct(unit),
        device=device,
        stress=any(task.property == "stress" for task in unit.dataset_to_tasks[task_name]),
        denoise=denoiser(predict),
    )
    return Opened(subject, chosen, origin, task_name)


def _double(path: Path, device: Device, task_name: str, unsafe: bool) -> Predict | str:
    try:
        return UnitPredictor(open_unit(path, device, torch.float64, unsafe), task_name)
    except torch.OutOfMemoryError as error:
        return f"the model does not fit into memory in float64: {error}"
