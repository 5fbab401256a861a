"""Many replicas of one molecule as one batch, which stays on its device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ase import Atoms
from fairchem.core.datasets.atomic_data import atomicdata_list_to_batch

from eqv2_plugin.inference.predictor import BatchPredictor

# [R, N, 3] Å to [R] eV and [R, N, 3] eV/Å, float64 tensors on one device.
PredictReplicas = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class ReplicaPredictor:
    """`BatchPredictor` for positions alone: same numbers, no way through ASE, nothing read back.

    Positions are taken relative to the middle of each replica, so that a molecule that has drifted
    far is predicted as exactly as one at the origin.

    Raises:
        ValueError: a periodic structure, or one that the model refuses (see `BatchPredictor`).
    """

    def __init__(self, predict: BatchPredictor, molecule: Atoms, replicas: int) -> None:
        if molecule.pbc.any():
            raise ValueError("replicas are for molecules, and this structure is periodic")
        predict.check(molecule)
        self._predict = predict
        self._batch = atomicdata_list_to_batch([predict.data(molecule)] * replicas)

    def __call__(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Energies and forces; raises what the model raises for structures that it refuses."""
        unit, middle = self._predict.unit, positions.mean(1, keepdim=True)
        self._batch.pos = (positions - middle).reshape(-1, 3).to(self._predict.dtype)
        # fairchem's wrapper picks each structure's atoms by a mask, and waits for the device.
        plain: Any = type(unit).predict.__wrapped__  # type: ignore[attr-defined]
        with torch.no_grad():  # conservative models differentiate by themselves
            outputs = plain(unit, self._batch)
        tasks = unit.dataset_to_tasks[self._predict.task_name]
        names = {task.property: task.name for task in tasks}
        energies = outputs[names["energy"]].detach().to(positions.dtype).reshape(-1)
        forces = outputs[names["forces"]].detach().to(positions.dtype)
        return energies, forces.reshape(positions.shape)
