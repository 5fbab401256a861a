"""A model as a function from structures to energies and forces, in one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from ase import Atoms
from fairchem.core.calculate.ase_calculator import AllZeroUnitCellError
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings
from fairchem.core.units.mlip_unit.predict import MLIPPredictUnit

from eqv2_plugin.checkpoints.door import open_model
from eqv2_plugin.data.labels import drop_info_labels
from eqv2_plugin.heads.scalar import OUTPUT as SCALAR
from eqv2_plugin.models.known_elements import elements_with_references
from eqv2_plugin.models.metadata import EnergyKind, energy_kind_of, metadata_of

Device = Literal["cpu", "cuda"]
# Å. Float32 keeps 1e-5 Å up to here. Nearer structures stay, so that their numbers are those of
# fairchem's calculator to the last bit.
_FAR = 100.0


@dataclass(frozen=True)
class Prediction:
    """Of one structure."""

    energy: float  # eV
    forces: np.ndarray  # [atoms, 3] eV/Å, of fixed atoms too
    # [3, 3] eV/Å^3; None where the model predicts none, or a direction is not periodic
    stress: np.ndarray | None = None


Predict = Callable[[Sequence[Atoms]], Sequence[Prediction]]


def open_unit(
    path: Path, device: Device, precision: torch.dtype, unsafe: bool = False
) -> MLIPPredictUnit:
    """The predict unit of a checkpoint or native file, as fairchem loads it, not compiled."""
    settings = InferenceSettings(activation_checkpointing=False, base_precision_dtype=precision)
    return open_model(path, device, settings, unsafe=unsafe)


def open_predictor(
    checkpoint: str | None,
    device: Device,
    settings: InferenceSettings,
    task_name: str | None,
    unsafe: bool = False,
) -> BatchPredictor:
    """The model of the option ``checkpoint=FILE`` and the task of ``task_name=NAME``."""
    if checkpoint is None:
        raise FileNotFoundError(
            "no model: give checkpoint=FILE, an inference checkpoint (results/inference_ckpt.pt of "
            "a training run, or what `eqv2 convert` writes) or a .safetensors file of `eqv2 export`"
        )
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint={checkpoint}: there is no such file")
    unit = open_model(path, device, settings, unsafe=unsafe)
    return BatchPredictor(unit, choose_task(unit, task_name, "task_name=NAME"))


class BatchPredictor:
    """A `Predict` whose numbers are those of ``FAIRChemCalculator``, but for a whole batch.

    Structures are checked and handed to the model as the calculator does it (atoms moved into
    the cell, the unit's precision), and forces keep the dtype that the model returns: optimizers
    take other paths with forces that were rounded otherwise. Only structures that lie far from
    the origin are moved there first (`near_origin`): the calculator's numbers suffer where
    positions are rounded to float32.
    """

    def __init__(self, unit: MLIPPredictUnit, task_name: str) -> None:
        self.unit = unit
        self.task_name = task_name
        self.dtype = unit.inference_settings.base_precision_dtype

    def __call__(self, structures: Sequence[Atoms]) -> list[Prediction]:
        """Predict all structures in one batch; errors as of `batch`."""
        batch = self.batch(structures)
        # Conservative models differentiate by themselves.
        with torch.no_grad():
            outputs = self.unit.predict(batch)
        energies = outputs["energy"].detach().cpu().numpy().ravel()
        forces = outputs["forces"].detach().cpu().numpy()
        ends = np.cumsum([len(atoms) for atoms in structures])
        parts = np.split(forces, ends[:-1])
        stresses = self._stresses(outputs, structures)
        return [
            Prediction(float(e), f, s) for e, f, s in zip(energies, parts, stresses, strict=True)
        ]

    def batch(self, structures: Sequence[Atoms]) -> AtomicData:
        """The structures as the model takes them.

        Raises:
            ValueError: no structures, or one without atoms, periodic without a cell, or with an
                element that the model does not know.
        """
        if not structures:
            raise ValueError("there are no structures to predict: give at least one")
        for atoms in structures:
            self.check(atoms)
        return atomicdata_list_to_batch([self.data(atoms) for atoms in structures])

    def _stresses(
        self, outputs: Mapping[str, torch.Tensor], structures: Sequence[Atoms]
    ) -> list[np.ndarray | None]:
        if "stress" not in outputs:
            return [None] * len(structures)
        found = outputs["stress"].detach().cpu().numpy().reshape(-1, 3, 3)
        return [s if a.pbc.all() else None for s, a in zip(found, structures, strict=True)]

    def data(self, atoms: Atoms) -> AtomicData:
        """fairchem's form of one structure, without labels; errors of the model name its sid."""
        sid = atoms.info.get("sid")
        bare = atoms.copy()
        drop_info_labels(bare.info)
        return AtomicData.from_ase(
            near_origin(bare),
            sid=None if sid is None else str(sid),
            task_name=self.task_name,
            target_dtype=self.dtype,
        )

    def check(self, atoms: Atoms) -> None:
        """Raises a ValueError, as a call does, for a structure that cannot be predicted."""
        if len(atoms) == 0:
            raise ValueError("the structure has no atoms")
        if atoms.pbc.all() and np.allclose(atoms.cell, 0):
            raise AllZeroUnitCellError
        self.unit.validate_atoms_data(atoms, self.task_name)

    @property
    def energy_kind(self) -> EnergyKind:
        """What the model's energies are relative to."""
        return energy_kind_of(metadata_of(self.unit.model.module))

    def energy_in_words(self, unknown: str) -> str:
        """The same as a sentence; ``unknown`` where the checkpoint does not say."""
        metadata = metadata_of(self.unit.model.module)
        return unknown if metadata is None else metadata.sentence()


def near_origin(atoms: Atoms) -> Atoms:
    """The atoms; a copy, moved along directions that are not periodic, if they lie far out.

    Only whole numbers of Å are taken off, in float64, so that distances stay as they are.
    """
    positions = atoms.positions
    if atoms.pbc.all() or not len(atoms) or not np.abs(positions).max() > _FAR:
        return atoms
    middle = (positions.max(0) + positions.min(0)) / 2
    periodic = np.asarray(atoms.cell)[atoms.pbc]
    if len(periodic):
        # What is normal to all periodic vectors.
        middle = middle - np.linalg.pinv(periodic) @ periodic @ middle
    offset = np.rint(middle)
    if not np.isfinite(offset).all() or not offset.any():
        return atoms
    moved = atoms.copy()
    moved.calc = atoms.calc
    moved.positions = positions - (offset if not len(periodic) else middle)
    return moved


def choose_dataset(unit: MLIPPredictUnit, wanted: str | None, option: str = "--task") -> str:
    """One of the data sets that a model predicts for: ``wanted``, or the only one.

    Raises:
        ValueError: no such data set, or several and none chosen (by ``option``).
    """
    known = sorted(unit.dataset_to_tasks)
    if wanted is None and len(known) > 1:
        raise ValueError(f"the model was trained on {', '.join(known)}: choose one with {option}")
    if wanted is not None and wanted not in known:
        raise ValueError(f"the model has no task {wanted!r}; it has {', '.join(known)}")
    return known[0] if wanted is None else wanted


def choose_task(unit: MLIPPredictUnit, wanted: str | None, option: str = "--task") -> str:
    """The data set whose energies and forces are predicted: ``wanted``, or the only one.

    Raises:
        ValueError: no such data set, several and none chosen (by ``option``), or no energies and
            forces.
    """
    task = choose_dataset(unit, wanted, option)
    properties = {t.property for t in unit.dataset_to_tasks[task]}
    missing = {"energy", "forces"} - properties
    if missing:
        hint = "; `eqv2 predict` writes a table of its numbers" if SCALAR in properties else ""
        raise ValueError(
            f"the model predicts no {' and no '.join(sorted(missing))} for {task}, but only "
            f"{', '.join(sorted(properties))}: energies and forces are needed{hint}"
        )
    return task


def known_elements(unit: MLIPPredictUnit, task_name: str) -> set[int]:
    """Atomic numbers that the model can predict: embedded, and with an element reference."""
    most = unit.model.module.backbone.config.max_num_elements
    known = elements_with_references(unit.dataset_to_tasks[task_name], most)
    return set(known.nonzero()[0].tolist())


def is_direct(unit: MLIPPredictUnit) -> bool:
    """Whether forces come from a head of their own."""
    return bool(unit.model.module.backbone.regress_config.direct_forces)
