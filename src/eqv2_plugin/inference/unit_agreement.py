"""Labels against a model: the same units, the same sign? Factors that no error of a model explains.

Predictions of a model that has learned anything point the way that the labels point, if not as far.
Where they do, a far smaller or larger label is in another unit, and where they point against the
labels, the labels are gradients, or energies of the opposite sign.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import units

# Cosine from which on predictions count as related to the labels.
_RELATED = 0.2
# What has hardly been learned is predicted a fourth as large; units differ by 13.6 at least.
_FAR = 8.0
# A cosine that is beyond chance, in standard deviations.
_CERTAIN = 3.0
# eV/Å: shorter forces have no direction.
_MIN_FORCE = 1e-6
# eV in one of the unit, eV/Å in one of the unit.
_ENERGY = {
    "meV": 1e-3,
    "kJ/mol": units.kJ / units.mol,
    "kcal/mol": units.kcal / units.mol,
    "Rydberg": units.Rydberg,
    "Hartree": units.Hartree,
    "keV": 1e3,
}
_FORCE = {f"{name}/Å": size for name, size in _ENERGY.items()} | {
    "Hartree/Bohr": units.Hartree / units.Bohr,
    "Rydberg/Bohr": units.Rydberg / units.Bohr,
}


@dataclass(frozen=True)
class Pairs:
    """Predictions beside labels."""

    numbers: list[np.ndarray]  # [structures] atomic numbers of each
    energies: np.ndarray  # [structures, 2] eV, prediction and label
    forces: np.ndarray  # [free atoms, 2, 3] eV/Å, prediction and label


def unit_notes(pairs: Pairs) -> list[str]:
    """What is wrong with the units or signs of labels, one sentence each; none if nothing is.

    Labels of harder structures than the model was trained on, and a model that has learned
    little, are no fault: factors below 8 are not judged, nor labels that predictions do not
    resemble at all.
    """
    systems = len({tuple(np.sort(one)) for one in pairs.numbers})
    # Frames of some systems tell as much as there are systems; of those of a single one,
    # neighbours of a trajectory resemble each other.
    independent = systems if systems > 1 else len(pairs.energies) // 2
    notes = [
        _note(*_of_energies(pairs), independent, "energies", _ENERGY, "eV", "of the opposite sign"),
        _note(
            *_of_forces(pairs.forces),
            len(pairs.forces),
            "forces",
            _FORCE,
            "eV/Å",
            "gradients, forces times -1",
        ),
    ]
    return [note for note in notes if note]


def _of_energies(pairs: Pairs) -> tuple[float, float]:
    """Cosine, and how much larger the labels are, of what does not go with the number of atoms.

    Untrained models have that, too.
    """
    sizes = np.array([len(one) for one in pairs.numbers], float)
    known = np.stack((np.ones_like(sizes), sizes), axis=1)
    fit, *_ = np.linalg.lstsq(known, pairs.energies, rcond=None)
    predicted, labelled = (pairs.energies - known @ fit).T
    norms = np.linalg.norm(predicted), np.linalg.norm(labelled)
    # What rounding leaves of equal numbers is no spread.
    if min(norms) < 1e-6 * np.sqrt(len(predicted)):
        return 0.0, 1.0
    return float(predicted @ labelled / (norms[0] * norms[1])), float(norms[1] / norms[0])


def _of_forces(forces: np.ndarray) -> tuple[float, float]:
    """Mean cosine, and median ratio of lengths: a few large forces do not decide."""
    predicted, labelled = np.linalg.norm(forces, axis=2).T
    there = (predicted > _MIN_FORCE) & (labelled > _MIN_FORCE)
    if not there.any():
        return 0.0, 1.0
    dot = (forces[there, 0] * forces[there, 1]).sum(1)
    ratios = labelled[there] / predicted[there]
    return float((dot / (predicted * labelled)[there]).mean()), float(np.median(ratios))


def _note(
    cosine: float,
    ratio: float,
    independent: int,
    what: str,
    known: dict[str, float],
    unit: str,
    sign: str,
) -> str:
    if abs(cosine) * np.sqrt(independent) < _CERTAIN:
        return ""
    if cosine < -_RELATED:
        return (
            f"the labelled {what} point against the predicted ones (cosine {cosine:.2f}): they "
            f"seem to be {sign}"
        )
    if cosine > _RELATED and not 1 / _FAR < ratio < _FAR:
        likely = _likely(ratio, known)
        return (
            f"the labelled {what} are {ratio:.3g} times as large as the predicted ones (cosine "
            f"{cosine:.2f}): they seem to be in {likely}, not in {unit}"
        )
    return ""


def _likely(ratio: float, known: dict[str, float]) -> str:
    """The unit whose factor comes nearest."""
    return min(known, key=lambda name: abs(np.log(ratio * known[name])))
