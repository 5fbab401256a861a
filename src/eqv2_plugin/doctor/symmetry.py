"""What must not change a prediction: rotation, the order of atoms, shifts, batch neighbours.

Also what it must not have: a net force, since a shift of all atoms must not change the energy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from eqv2_plugin.common.findings import Verdict, gravest
from eqv2_plugin.data.fixed_atoms import fixed_mask
from eqv2_plugin.doctor.examination import CannotRunError, Examination, Limits, Outcome
from eqv2_plugin.inference.predictor import Predict, Prediction

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Largest change of a force under rotation, relative to the largest force. The S2 grids are exact
# up to their resolution only: with the paper's R the error stays below 2e-2 in
# docs/equivariance.md, and reaches 1e-1 for a grid that is too coarse (L = 4, R = 10).
_ROTATION = Limits(good=2e-2, bad=1e-1)
# The same of the stress. The direct stress head of published models changes by 0.5 to 1.7 at 90
# degrees; a stress that is the energy's derivative errs as the forces do.
_STRESS = Limits(good=2e-2, bad=1e-1)
# Change of an energy, meV per atom. The best published models err by about 10 meV per atom on
# their own test sets: a tenth of it is not seen, and all of it spoils the model.
_ENERGY = Limits(good=1.0, bad=10.0)
# Relative change of forces where only rounding should differ (permutation, batch). Measured on
# our models in float32: below 1e-6 (docs/doctor.md); 1e-2 is beyond any rounding.
_ROUNDING = Limits(good=1e-4, bad=1e-2)
# The same for a translation with images, up to 100 Å away, where float32 positions are rounded to
# 4e-6 Å: 1e-4 measured.
_TRANSLATION = Limits(good=1e-3, bad=1e-2)
# Same input twice. Nothing, or the rounding of a GPU's atomic additions.
_REPEAT = Limits(good=0.0, bad=1e-4)
# |sum of forces| / atoms, relative to the mean |force|. Independent errors of 10 % on 20 atoms
# leave 2 %; 10 % left is an error that all atoms share, and pushes the structure as a whole.
_NET_FORCE = Limits(good=2e-2, bad=1e-1)

_ROTATIONS, _REPETITIONS = 16, 3  # wanted, if time allows
_SHIFT = 5.0  # Å
_IMAGES = 2  # cells that an atom is moved by, at most

# Predictions of a structure that was changed at random, brought back: (predict, atoms, how many,
# random numbers).
_Variants = Callable[[Predict, Atoms, int, Any], Iterator[Prediction]]


def rotation(exam: Examination, precision: str) -> Outcome:
    """Forces of rotated structures, rotated back; ``precision`` is float32 or float64."""
    predict = exam.subject.predict if precision == "float32" else exam.subject.predict_double
    if isinstance(predict, str):
        raise CannotRunError(predict)
    count = exam.affordable(0.12, exam.cost(predict, exam.structures), _ROTATIONS)
    changes = _changes(predict, exam.structures, count, _rotated, _per_structure())
    exam.measured.setdefault("rotations", {})[precision] = changes[:, 0]
    return _judged(changes, _ROTATION, f"; {len(changes)} rotations")


def stress(exam: Examination) -> Outcome:
    """The same of the stress, where there is a volume."""
    predict = exam.subject.predict
    structures = [atoms for atoms in exam.structures if atoms.pbc.all()]
    if not structures:
        raise CannotRunError("no structure is periodic in three directions, so none has a stress")
    count = exam.affordable(0.05, exam.cost(predict, structures), _ROTATIONS)
    found = _changes(predict, structures, count, _rotated, _per_structure(), _stress_change)
    largest, median = float(np.max(found)), float(np.median(found))
    text = (
        f"stress changes by {largest:.1e} of its largest component (median {median:.1e}); "
        f"{len(found)} rotations"
    )
    numbers = {"stress_max_relative": largest, "stress_median_relative": median}
    return _STRESS.judge(largest), text, numbers


def permutation(exam: Examination) -> Outcome:
    """The atoms in another order."""
    return _judged(_repeated(exam, 0.05, _permuted), _ROUNDING)


def translation(exam: Examination) -> Outcome:
    """The structure shifted, and each atom moved to some periodic image of its own."""
    return _judged(_repeated(exam, 0.05, _shifted), _TRANSLATION)


def batch(exam: Examination) -> Outcome:
    """Every structure alone, and all of them in one batch with the first one twice."""
    predict, structures = exam.subject.predict, [*exam.structures, exam.structures[0]]
    exam.affordable(0.05, 2 * exam.cost(predict, exam.structures))
    together = predict(structures)
    alone = [predict([atoms])[0] for atoms in structures]
    changes = np.array([_change(*pair) for pair in zip(alone, together, strict=True)])
    return _judged(changes, _ROUNDING, f"; batch of {len(changes)}")


def repeat(exam: Examination) -> Outcome:
    """The same input again."""
    changes = _repeated(exam, 0.03, _same)
    _, text, numbers = _judged(changes, _REPEAT)
    if not changes.any():
        return Verdict.GOOD, "bit for bit the same", numbers
    verdict = gravest(_REPEAT.judge(changes[:, column].max()) for column in (0, 1))
    return verdict, f"not bit for bit: {text}", numbers


def net_force(exam: Examination) -> Outcome:
    """|sum of forces| / atoms, relative to the mean |force|."""
    free = [atoms for atoms in exam.structures if not fixed_mask(atoms).any()]
    if not free:
        raise CannotRunError(
            "every structure has fixed atoms, whose forces such models are not trained on"
        )
    predict, found = exam.subject.predict, []
    exam.affordable(0.03, exam.cost(predict, free))
    for atoms in free:
        (prediction,) = predict([atoms])
        mean = np.linalg.norm(prediction.forces, axis=1).mean()
        if mean == 0:
            raise CannotRunError("all forces of a structure are zero")
        found.append(np.linalg.norm(prediction.forces.sum(0)) / len(atoms) / mean)
    largest = float(np.max(found))
    text = f"{largest:.1e} of the mean force, per atom"
    return _NET_FORCE.judge(largest), text, {"relative_per_atom": largest}


def plot(axis: Axes, rotations: dict[str, np.ndarray]) -> None:
    """Histogram of the changes of forces under rotation."""
    values = {k: v[np.isfinite(v) & (v > 0)] for k, v in sorted(rotations.items())}
    together = np.concatenate(list(values.values()))
    if not len(together):
        return
    low, high = np.floor(np.log10(together.min())), np.ceil(np.log10(together.max()))
    bins = np.logspace(low, max(high, low + 1), 41)
    for (name, v), colour, style in zip(values.items(), ("C0", "C3"), ("-", "--"), strict=False):
        axis.hist(v, bins, color=colour, alpha=0.2)
        # Both outlines stay visible where the two lie upon each other.
        axis.hist(v, bins, color=colour, histtype="step", lw=1.5, ls=style, label=name)
    axis.set_xscale("log")
    axis.legend()


def _rotated(
    predict: Predict, atoms: Atoms, count: int, random: np.random.RandomState
) -> Iterator[Prediction]:
    for matrix in Rotation.random(count, random_state=random).as_matrix():
        rotated = atoms.copy()
        rotated.set_cell(atoms.cell.array @ matrix.T)
        rotated.positions = atoms.positions @ matrix.T
        (after,) = predict([rotated])
        stress = None if after.stress is None else matrix.T @ after.stress @ matrix
        yield Prediction(after.energy, after.forces @ matrix, stress)


def _permuted(
    predict: Predict, atoms: Atoms, count: int, random: np.random.Generator
) -> Iterator[Prediction]:
    for _ in range(count):
        order = random.permutation(len(atoms))
        (after,) = predict([atoms[order]])
        yield Prediction(after.energy, after.forces[np.argsort(order)])


def _shifted(
    predict: Predict, atoms: Atoms, count: int, random: np.random.Generator
) -> Iterator[Prediction]:
    for _ in range(count):
        images = random.integers(-_IMAGES, _IMAGES + 1, size=(len(atoms), 3)) * atoms.pbc
        moved = atoms.copy()
        moved.positions += images @ atoms.cell.array
        moved.positions += random.uniform(-_SHIFT, _SHIFT, 3)
        yield from predict([moved])


def _same(
    predict: Predict, atoms: Atoms, count: int, random: np.random.Generator
) -> Iterator[Prediction]:
    for _ in range(count):
        yield from predict([atoms])


def _repeated(exam: Examination, share: float, variants: _Variants) -> np.ndarray:
    predict = exam.subject.predict
    count = exam.affordable(share, exam.cost(predict, exam.structures), _REPETITIONS)
    return _changes(
        predict, exam.structures, count, variants, itertools.repeat(np.random.default_rng(0))
    )


def _change(before: Prediction, after: Prediction) -> tuple[float, float, float]:
    """Of a force component relative to the largest, of the energy in meV per atom and relative."""
    size = np.abs(before.forces).max()
    if size == 0:
        raise CannotRunError("all forces of a structure are zero")
    energy = abs(after.energy - before.energy)
    return (
        float(np.abs(after.forces - before.forces).max() / size),
        1e3 * energy / len(before.forces),
        energy / max(abs(before.energy), np.finfo(float).tiny),
    )


def _stress_change(before: Prediction, after: Prediction) -> float:
    size = 0.0 if before.stress is None else np.abs(before.stress).max()
    if size == 0:
        raise CannotRunError("the model predicts no stress for a structure")
    changed = np.nan if after.stress is None else after.stress - before.stress
    return float(np.abs(changed).max() / size)


def _changes(
    predict: Predict,
    structures: Sequence[Atoms],
    count: int,
    variants: _Variants,
    randoms: Iterable[Any],
    change: Callable[[Prediction, Prediction], Any] = _change,
) -> np.ndarray:
    """[comparisons, ...] what ``change`` returns; ``randoms`` are those of each structure."""
    found = []
    for atoms, random in zip(structures, randoms, strict=False):
        (before,) = predict([atoms])
        found += [change(before, after) for after in variants(predict, atoms, count, random)]
    return np.array(found)


def _per_structure() -> Iterator[np.random.RandomState]:
    return map(np.random.RandomState, itertools.count())


def _judged(changes: np.ndarray, limits: Limits, more: str = "") -> Outcome:
    forces, energy, relative = (float(value) for value in changes.max(0))
    median = float(np.median(changes[:, 0]))
    text = (
        f"forces change by {forces:.1e} of the largest (median {median:.1e}), energy by "
        f"{energy:.1e} meV/atom ({relative:.1e} relative){more}"
    )
    numbers = {
        "forces_max_relative": forces,
        "forces_median_relative": median,
        "energy_max_meV_per_atom": energy,
        "energy_max_relative": relative,
    }
    return gravest([limits.judge(forces), _ENERGY.judge(energy)]), text, numbers
