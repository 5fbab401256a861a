"""What must not change a prediction: rotation, the order of atoms, shifts, batch neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from eqv2_plugin.doctor.changes import Changes, Collected
from eqv2_plugin.doctor.predictor import Predict, Prediction
from eqv2_plugin.doctor.report import CannotRunError
from eqv2_plugin.doctor.structures import fixed_atoms

_SHIFT = 5.0  # Å
_IMAGES = 2  # cells that an atom is moved by, at most


def rotation_changes(
    predict: Predict, structures: Sequence[Atoms], repetitions: int, seed: int = 0
) -> Changes:
    """Predict turned structures, and turn the forces back."""
    collected = Collected()
    for index, atoms in enumerate(structures):
        (before,) = predict([atoms])
        for matrix in Rotation.random(repetitions, random_state=seed + index).as_matrix():
            (after,) = predict([_turned(atoms, matrix)])
            collected.add(before, Prediction(after.energy, after.forces @ matrix))
    return collected.changes()


def stress_changes(
    predict: Predict, structures: Sequence[Atoms], repetitions: int, seed: int = 0
) -> np.ndarray:
    """Predict turned structures, and turn the stress back.

    Returns:
        The largest change of a component, relative to the largest component, for every rotation.

    Raises:
        CannotRunError: no structure has a stress, or it is zero.
    """
    found = []
    for index, atoms in enumerate(with_volume(structures)):
        (before,) = predict([atoms])
        size = 0.0 if before.stress is None else np.abs(before.stress).max()
        if before.stress is None or size == 0:
            raise CannotRunError("the model predicts no stress for a structure")
        for matrix in Rotation.random(repetitions, random_state=seed + index).as_matrix():
            (after,) = predict([_turned(atoms, matrix)])
            back = np.full((3, 3), np.nan) if after.stress is None else after.stress
            found.append(np.abs(matrix.T @ back @ matrix - before.stress).max() / size)
    return np.array(found)


def with_volume(structures: Sequence[Atoms]) -> list[Atoms]:
    """The structures that have a stress.

    Raises:
        CannotRunError: none is periodic in three directions.
    """
    found = [atoms for atoms in structures if atoms.pbc.all()]
    if not found:
        raise CannotRunError("no structure is periodic in three directions, so none has a stress")
    return found


def _turned(atoms: Atoms, matrix: np.ndarray) -> Atoms:
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ matrix.T)
    turned.positions = atoms.positions @ matrix.T
    return turned


def permutation_changes(
    predict: Predict, structures: Sequence[Atoms], repetitions: int, seed: int = 0
) -> Changes:
    """Predict with the atoms in another order."""

    def shuffled(atoms: Atoms, random: np.random.Generator) -> tuple[Atoms, np.ndarray]:
        order = random.permutation(len(atoms))
        return atoms[order], np.argsort(order)

    return _random_changes(predict, structures, repetitions, seed, shuffled)


def translation_changes(
    predict: Predict, structures: Sequence[Atoms], repetitions: int, seed: int = 0
) -> Changes:
    """Predict shifted structures, each atom moved to some periodic image of its own."""

    def shifted(atoms: Atoms, random: np.random.Generator) -> tuple[Atoms, np.ndarray]:
        moved = atoms.copy()
        images = random.integers(-_IMAGES, _IMAGES + 1, size=(len(atoms), 3)) * atoms.pbc
        moved.positions = (
            atoms.positions + images @ atoms.cell.array + random.uniform(-_SHIFT, _SHIFT, 3)
        )
        return moved, np.arange(len(atoms))

    return _random_changes(predict, structures, repetitions, seed, shifted)


def _random_changes(
    predict: Predict,
    structures: Sequence[Atoms],
    repetitions: int,
    seed: int,
    change: Callable[[Atoms, np.random.Generator], tuple[Atoms, np.ndarray]],
) -> Changes:
    """``change`` returns other atoms, and where each original atom's force is among theirs."""
    collected, random = Collected(), np.random.default_rng(seed)
    for atoms in structures:
        (before,) = predict([atoms])
        for _ in range(repetitions):
            changed, places = change(atoms, random)
            (after,) = predict([changed])
            collected.add(before, Prediction(after.energy, after.forces[places]))
    return collected.changes()


def batch_changes(predict: Predict, structures: Sequence[Atoms]) -> Changes:
    """Predict every structure alone, and all of them in one batch with the first one twice."""
    collected = Collected()
    together = predict([*structures, structures[0]])
    for atoms, after in zip([*structures, structures[0]], together, strict=True):
        (before,) = predict([atoms])
        collected.add(before, after)
    return collected.changes()


def repeat_changes(predict: Predict, structures: Sequence[Atoms], repetitions: int) -> Changes:
    """Predict the same again."""
    collected = Collected()
    for atoms in structures:
        (before,) = predict([atoms])
        for _ in range(repetitions):
            (after,) = predict([atoms])
            collected.add(before, after)
    return collected.changes()


def without_fixed_atoms(structures: Sequence[Atoms]) -> list[Atoms]:
    """The structures whose forces add up to something that a model has learned.

    Raises:
        CannotRunError: every structure has fixed atoms.
    """
    free = [atoms for atoms in structures if len(fixed_atoms(atoms)) == 0]
    if not free:
        raise CannotRunError(
            "every structure has fixed atoms, whose forces such models are not trained on"
        )
    return free


def net_forces(predict: Predict, structures: Sequence[Atoms]) -> np.ndarray:
    """|sum of forces| / atoms, relative to the mean |force|, of every structure.

    Raises:
        CannotRunError: all forces of one vanish.
    """
    found = []
    for atoms in structures:
        (prediction,) = predict([atoms])
        mean = np.linalg.norm(prediction.forces, axis=1).mean()
        if mean == 0:
            raise CannotRunError("all forces of a structure are zero")
        found.append(np.linalg.norm(prediction.forces.sum(0)) / len(atoms) / mean)
    return np.array(found)
