"""What a relaxation leaves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms


@dataclass(frozen=True)
class Relaxed:
    """One finished relaxation, or one that failed.

    Attributes:
        id: of the structure.
        initial: where it started; no calculator.
        atoms: where it ended, without calculator; of a failed one the last structure that was
            predicted (the initial one if none was).
        energy: eV, of ``atoms``; NaN if it failed before any prediction.
        forces: [atoms, 3] eV/Å as predicted, of fixed atoms too; dtype of the model.
        steps: that the optimizer took.
        converged: whether every free atom's force was below fmax at the end.
        energies: [steps + 1] eV, before the first and after every step.
        fmax: [steps + 1] eV/Å, largest force on an atom that may move.
        error: why it failed; empty if it did not. The numbers of a failed one are those up to
            its last good prediction.
    """

    id: str
    initial: Atoms
    atoms: Atoms
    energy: float
    forces: np.ndarray
    steps: int
    converged: bool
    energies: np.ndarray
    fmax: np.ndarray
    error: str = ""

    @property
    def failed(self) -> bool:
        """Whether the model's predictions went astray."""
        return bool(self.error)
