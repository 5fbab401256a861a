"""The model under examination: energies and forces of structures exactly as they are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase import Atoms
from fairchem.core.datasets.atomic_data import AtomicData

from eqv2_plugin.inference.centring import near_origin
from eqv2_plugin.inference.predictor import (
    BatchPredictor,
    Device,
    Predict,
    Prediction,
    choose_task,
    is_direct,
    known_elements,
    open_unit,
)

__all__ = [
    "Device",
    "Predict",
    "Prediction",
    "UnitPredictor",
    "choose_task",
    "is_direct",
    "known_elements",
    "open_unit",
]


class UnitPredictor(BatchPredictor):
    """A `Predict` that does not move atoms into the cell, with numbers in float64."""

    def __call__(self, structures: Sequence[Atoms]) -> list[Prediction]:
        """Predict all structures in one batch."""
        found = super().__call__(structures)
        return [
            Prediction(
                p.energy,
                p.forces.astype(float),
                None if p.stress is None else p.stress.astype(float),
            )
            for p in found
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
