"""A model as a function from structures to one number each, in one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from fairchem.core.units.mlip_unit.predict import MLIPPredictUnit

from eqv2_plugin.heads.scalar import OUTPUT as SCALAR
from eqv2_plugin.inference.predictor import BatchPredictor, choose_dataset
from eqv2_plugin.models.metadata import metadata_of


class ScalarPredictor(BatchPredictor):
    """Predicts the number that a model was trained on, else its energy, per structure.

    ``name`` is what the number is called, ``is_energy`` whether it is the energy (eV).

    Raises:
        ValueError: as `choose_dataset`, or the model predicts neither.
    """

    def __init__(self, unit: MLIPPredictUnit, task: str | None) -> None:
        super().__init__(unit, choose_dataset(unit, task))
        found = {t.property for t in unit.dataset_to_tasks[self.task_name]}
        self._output = SCALAR if SCALAR in found else "energy"
        if self._output not in found:
            raise ValueError(
                f"the model predicts no number per structure for {self.task_name}, but only "
                f"{', '.join(sorted(found))}"
            )
        metadata = metadata_of(unit.model.module)
        stored = None if metadata is None else metadata.target
        self.is_energy = self._output == "energy"
        self.name = "energy" if self.is_energy else stored or SCALAR

    def numbers(self, structures: Sequence[Atoms]) -> list[float]:
        """One number for each structure, in the units of the training data.

        Raises:
            ValueError: as `BatchPredictor`.
        """
        batch = self.batch(structures)
        with torch.no_grad():
            outputs = self.unit.predict(batch)
        return np.asarray(outputs[self._output].detach().cpu(), float).ravel().tolist()
