"""A calculator that only hands out what a batched model call has left there."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.abc import GetPropertiesMixin
from ase.calculators.calculator import PropertyNotImplementedError

from eqv2_plugin.inference.predictor import Prediction


class NotInLockstepError(RuntimeError):
    """An optimizer that asks for energies within a step: a fault of the code, of no structure."""


class StoredResults(GetPropertiesMixin):
    """Energy and forces of the current positions, from outside.

    ASE's own calculators compare all atoms at each question, and would calculate by themselves.
    Here the owner of the loop supplies results after each move, and takes them back before it.
    """

    name = "stored"

    def __init__(self) -> None:
        self._prediction: Prediction | None = None

    def supply(self, prediction: Prediction | None) -> None:
        """Results of the current positions; None when the atoms are about to move."""
        self._prediction = prediction

    def get_property(
        self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True
    ) -> Any:
        """As ASE's calculators; ``free_energy`` is the energy, as in ``FAIRChemCalculator``.

        Raises:
            PropertyNotImplementedError: anything but energy and forces.
            NotInLockstepError: the atoms have moved, and no results have been supplied since.
        """
        if name not in ("energy", "free_energy", "forces"):
            raise PropertyNotImplementedError(f"{name} is not predicted")
        if self._prediction is None:
            raise NotInLockstepError(
                f"{name} was asked for within a step: this optimizer cannot be advanced in lockstep"
            )
        if name == "forces":
            return np.array(self._prediction.forces)  # constraints change what they are given
        return self._prediction.energy
