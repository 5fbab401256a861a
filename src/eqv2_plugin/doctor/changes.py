"""How far two predictions of one structure lie apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eqv2_plugin.doctor.predictor import Prediction
from eqv2_plugin.doctor.report import CannotRunError


@dataclass(frozen=True)
class Changes:
    """Changes of many comparisons.

    Attributes:
        forces: largest change of a force component, relative to the largest component.
        energies: change in meV per atom.
        relative_energies: change relative to the size of the energy.
    """

    forces: np.ndarray
    energies: np.ndarray
    relative_energies: np.ndarray

    def numbers(self) -> dict[str, float]:
        """Largest changes, and the median of that of the forces."""
        return {
            "forces_max_relative": float(np.max(self.forces)),
            "forces_median_relative": float(np.median(self.forces)),
            "energy_max_meV_per_atom": float(np.max(self.energies)),
            "energy_max_relative": float(np.max(self.relative_energies)),
        }

    def text(self) -> str:
        n = self.numbers()
        return (
            f"forces change by {n['forces_max_relative']:.1e} of the largest "
            f"(median {n['forces_median_relative']:.1e}), energy by "
            f"{n['energy_max_meV_per_atom']:.1e} meV/atom ({n['energy_max_relative']:.1e} relative)"
        )


class Collected:
    """Comparisons, one after the other."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, float, float]] = []

    def add(self, before: Prediction, after: Prediction) -> None:
        """Compare ``after``, turned back, shifted back or put in order again, to ``before``.

        Raises:
            CannotRunError: all forces vanish, so that no change is relative to anything.
        """
        size = np.abs(before.forces).max()
        if size == 0:
            raise CannotRunError("all forces of a structure are zero")
        energy = abs(after.energy - before.energy)
        self._rows.append(
            (
                float(np.abs(after.forces - before.forces).max() / size),
                1e3 * energy / len(before.forces),
                energy / max(abs(before.energy), np.finfo(float).tiny),
            )
        )

    def changes(self) -> Changes:
        forces, energies, relative = np.array(self._rows).T
        return Changes(forces, energies, relative)
