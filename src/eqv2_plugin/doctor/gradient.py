"""Are the forces a gradient, and of the energy? By moving single atoms back and forth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.geometry import get_distances

from eqv2_plugin.data.fixed_atoms import fixed_mask
from eqv2_plugin.doctor.examination import (
    CannotRunError,
    Examination,
    Limits,
    Outcome,
    spare_direct,
)
from eqv2_plugin.inference.predictor import Predict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# |J - J^T| / |J + J^T| of the force Jacobian; 0 for a gradient, 1 for a random matrix.
# For a gradient only the finite differences err; the limits for direct forces are ours: at 2 %
# a short NVE run does not show it, at 20 % the field is no gradient in any useful sense.
_JACOBIAN, _JACOBIAN_DIRECT = Limits(good=1e-3, bad=1e-2), Limits(good=2e-2, bad=2e-1)
# |F + dE/dx| / |F|. The same reasoning; at 1 forces and energy have nothing to do with each other.
_GRADIENT, _GRADIENT_DIRECT = Limits(good=1e-3, bad=1e-2), Limits(good=5e-2, bad=1.0)

# Å. Rounding over the step stays below 1e-7 in float64 and 1e-3 in float32, in eV/Å per eV.
_STEP, _STEP_FLOAT32 = 1e-4, 1e-2
_MOVED_ATOMS = 6  # wanted, if time allows


@dataclass(frozen=True)
class Differences:
    """Derivatives along the coordinates of n atoms."""

    jacobian: np.ndarray  # [3n, 3n] d(-force)/dx in eV/Å^2 among these atoms
    gradient: np.ndarray  # [3n] dE/dx in eV/Å
    forces: np.ndarray  # [3n] predicted, eV/Å


def jacobian(exam: Examination) -> Outcome:
    """Whether the forces are the gradient of some energy."""
    found = _measured(exam)
    symmetric = np.linalg.norm(found.jacobian + found.jacobian.T)
    if symmetric == 0:
        raise CannotRunError("the forces do not depend on the positions")
    asymmetry = float(np.linalg.norm(found.jacobian - found.jacobian.T) / symmetric)
    limits = _JACOBIAN_DIRECT if exam.subject.direct else _JACOBIAN
    text = f"|J - J^T| / |J + J^T| = {asymmetry:.1e}; {len(found.forces) // 3} atoms moved"
    verdict, words = spare_direct(limits.judge(asymmetry), asymmetry, exam.subject.direct)
    return verdict, text + words, {"asymmetry": asymmetry}


def gradient(exam: Examination) -> Outcome:
    """Whether the forces are the gradient of the model's energy."""
    found = _measured(exam)
    size = np.linalg.norm(found.forces)
    if size == 0:
        raise CannotRunError("all forces are zero")
    error = float(np.linalg.norm(found.forces + found.gradient) / size)
    limits = _GRADIENT_DIRECT if exam.subject.direct else _GRADIENT
    verdict, words = spare_direct(limits.judge(error), error, exam.subject.direct)
    return verdict, f"|F + dE/dx| / |F| = {error:.1e}{words}", {"relative": error}


def plot(axis: Axes, differences: Differences) -> None:
    """Every element of the Jacobian against its mirror image."""
    above = np.triu_indices_from(differences.jacobian, 1)
    upper, lower = differences.jacobian[above], differences.jacobian.T[above]
    reach = 1.05 * max(np.abs(upper).max(), np.abs(lower).max(), 1e-12)
    axis.plot([-reach, reach], [-reach, reach], color="black", lw=0.8, label="gradient field")
    axis.scatter(upper, lower, s=10, alpha=0.5, edgecolors="none")
    axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
    axis.legend()


def _measured(exam: Examination) -> Differences:
    if "differences" not in exam.measured:
        double = exam.subject.predict_double
        predict = exam.subject.predict if isinstance(double, str) else double
        step = _STEP_FLOAT32 if isinstance(double, str) else _STEP
        cost = 6 * exam.cost(predict, [exam.smallest])
        moved = _neighbours(exam.smallest, exam.affordable(0.20, cost, _MOVED_ATOMS, least=2))
        exam.measured["differences"] = _differences(predict, exam.smallest, moved, step)
    return exam.measured["differences"]


def _differences(predict: Predict, atoms: Atoms, moved: np.ndarray, step: float) -> Differences:
    """Central differences; ``predict`` is called 6 times per moved atom."""
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


def _neighbours(atoms: Atoms, count: int) -> np.ndarray:
    """A free atom near the middle and the free atoms nearest to it: their couplings are large."""
    free = np.flatnonzero(~fixed_mask(atoms))
    if len(free) == 0:
        raise CannotRunError("every atom of the structure is fixed")
    positions = atoms.positions[free]
    middle = np.argmin(np.linalg.norm(positions - positions.mean(0), axis=1))
    _, distances = get_distances(
        positions[middle : middle + 1], positions, cell=atoms.cell, pbc=atoms.pbc
    )
    return np.sort(free[np.argsort(distances[0], kind="stable")[:count]])
