"""Are the forces a gradient, and of the energy? By moving single atoms back and forth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.geometry import get_distances

from eqv2_plugin.doctor.predictor import Predict
from eqv2_plugin.doctor.report import CannotRunError
from eqv2_plugin.doctor.structures import fixed_atoms

# Å. Rounding over the step stays below 1e-7 in float64 and 1e-3 in float32, in eV/Å per eV.
STEP = {"float64": 1e-4, "float32": 1e-2}


@dataclass(frozen=True)
class Differences:
    """Derivatives along the coordinates of some atoms.

    Attributes:
        jacobian: [3n, 3n] d(-force)/dx in eV/Å^2 among these atoms.
        gradient: [3n] dE/dx in eV/Å.
        forces: [3n] predicted, eV/Å.
    """

    jacobian: np.ndarray
    gradient: np.ndarray
    forces: np.ndarray

    def asymmetry(self) -> float:
        """|J - J^T| / |J + J^T|: 0 if the forces are the gradient of some energy.

        Raises:
            CannotRunError: the forces do not depend on the positions.
        """
        symmetric = np.linalg.norm(self.jacobian + self.jacobian.T)
        if symmetric == 0:
            raise CannotRunError("the forces do not depend on the positions")
        return float(np.linalg.norm(self.jacobian - self.jacobian.T) / symmetric)

    def gradient_error(self) -> float:
        """|F + dE/dx| / |F|: 0 if the forces are the gradient of the model's energy.

        Raises:
            CannotRunError: all forces vanish.
        """
        size = np.linalg.norm(self.forces)
        if size == 0:
            raise CannotRunError("all forces are zero")
        return float(np.linalg.norm(self.forces + self.gradient) / size)


def differences(predict: Predict, atoms: Atoms, moved: np.ndarray, step: float) -> Differences:
    """Central differences.

    Args:
        predict: called 6 times per moved atom.
        atoms: the structure.
        moved: indices of the atoms to move, [n].
        step: Å.
    """
    columns, gradient = [], []
    for atom in moved:
        for axis in range(3):
            energies, forces = [], []
            for sign in (1.0, -1.0):
                displaced = atoms.copy()
                displaced.positions[atom, axis] += sign * step
                (prediction,) = predict([displaced])
                energies.append(prediction.energy)
                forces.append(prediction.forces[moved].ravel())
            gradient.append((energies[0] - energies[1]) / (2 * step))
            columns.append((forces[1] - forces[0]) / (2 * step))
    (prediction,) = predict([atoms])
    return Differences(
        np.stack(columns, axis=1), np.array(gradient), prediction.forces[moved].ravel()
    )


def neighbouring_atoms(atoms: Atoms, count: int) -> np.ndarray:
    """A free atom near the middle and the free atoms nearest to it: their couplings are large."""
    free = np.setdiff1d(np.arange(len(atoms)), fixed_atoms(atoms))
    if len(free) == 0:
        raise CannotRunError("every atom of the structure is fixed")
    positions = atoms.positions[free]
    middle = np.argmin(np.linalg.norm(positions - positions.mean(0), axis=1))
    _, distances = get_distances(
        positions[middle : middle + 1], positions, cell=atoms.cell, pbc=atoms.pbc
    )
    return np.sort(free[np.argsort(distances[0], kind="stable")[:count]])
