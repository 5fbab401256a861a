"""Labels against a model: the same units, the same sign? Factors that no error of a model explains.

Predictions of a model that has learned anything point the way that the labels point, if not as far.
Where they do, a far smaller or larger label is in another unit, and where they point against the
labels, the labels are gradients, or energies of the opposite sign.

Of predictions a t + noise, where t is the truth, and labels u t, the ratio of lengths is u c / a,
with the cosine c between the two. A model that minimises its error has a = c^2, thus the ratio
u / c; one whose errors exceed nearly relaxed frames' forces has a = 1, and u c. Between them stands
the root of c, by which a ratio must still be far.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import units
from scipy.stats import norm
from scipy.stats import t as student

# Cosine from which on predictions count as related to the labels, whatever is compared.
_RELATED = 0.2
# The same where one system after the other agrees.
_RELATED_EVERYWHERE = 0.05
# Units differ by 13.6 at least; what a model errs, and harder frames than it knows, stay below.
FAR = 8.0
# A cosine that is beyond chance, in standard deviations of a normal distribution.
_CERTAIN = 3.0
# eV/Å: shorter forces have no direction.
_MIN_FORCE = 1e-6
# eV in one of the unit.
ENERGY_UNITS = {
    "meV": 1e-3,
    "kJ/mol": units.kJ / units.mol,
    "kcal/mol": units.kcal / units.mol,
    "Rydberg": units.Rydberg,
    "Hartree": units.Hartree,
    "keV": 1e3,
}
# eV/Å in one of the unit.
_FORCE_UNITS = {f"{name}/Å": size for name, size in ENERGY_UNITS.items()} | {
    "Hartree/Bohr": units.Hartree / units.Bohr,
    "Rydberg/Bohr": units.Rydberg / units.Bohr,
}


@dataclass(frozen=True)
class Pairs:
    """Predictions beside labels."""

    numbers: list[np.ndarray]  # [structures] atomic numbers of each
    energies: np.ndarray  # [structures, 2] eV, prediction and label
    forces: list[np.ndarray]  # [structures] of [free atoms, 2, 3] eV/Å, prediction and label


@dataclass(frozen=True)
class _Relation:
    """Of labels to predictions."""

    cosine: float
    ratio: float  # how much longer labels are
    related: bool  # whether the cosine is beyond chance and large enough to judge by


_UNRELATED = _Relation(0.0, 1.0, False)


def energy_unit_note(pairs: Pairs) -> str:
    """What is wrong with the unit or sign of labelled energies, as a sentence; "" if nothing is.

    Judged by what does not go with the number of atoms, whatever energies are relative to. Labels
    of harder structures than the model was trained on, and a model that has learned little, are no
    fault: factors below 8 are not judged, nor labels that predictions do not resemble at all.
    """
    found = _of_energies(pairs.numbers, pairs.energies)
    if not found.related or (found.cosine > 0 and not _is_far(found)):
        return ""
    if found.cosine < 0:
        return _sign_note(found, "energies", "of the opposite sign")
    sizes = np.array([len(one) for one in pairs.numbers])
    of_atoms = _of_energies(pairs.numbers, pairs.energies * np.stack((sizes**0, sizes), axis=1))
    likely = likely_unit(found.ratio)
    misfit = abs(np.log(found.ratio * ENERGY_UNITS[likely]))
    per_atom = of_atoms.related and of_atoms.cosine > 0 and abs(np.log(of_atoms.ratio)) < misfit
    return _unit_note(found, "energies", "eV per atom" if per_atom else likely, "eV")


def force_unit_note(pairs: Pairs) -> str:
    """The same of labelled forces."""
    found = _of_forces(pairs)
    if not found.related or (found.cosine > 0 and not _is_far(found)):
        return ""
    if found.cosine < 0:
        return _sign_note(found, "forces", "gradients, forces times -1")
    return _unit_note(found, "forces", likely_unit(found.ratio, _FORCE_UNITS), "eV/Å")


def likely_unit(ratio: float, known: dict[str, float] | None = None) -> str:
    """The unit whose numbers are, times nearly this ratio, those in eV (or as ``known``)."""
    sizes = ENERGY_UNITS if known is None else known
    return min(sizes, key=lambda name: abs(np.log(ratio * sizes[name])))


def _is_far(found: _Relation) -> bool:
    root = found.cosine**0.5
    return found.ratio * root > FAR or found.ratio / root < 1 / FAR


def _of_energies(numbers: list[np.ndarray], energies: np.ndarray) -> _Relation:
    sizes = np.array([len(one) for one in numbers], float)
    known = np.stack((np.ones_like(sizes), sizes), axis=1)
    # Untrained models have what goes with the number of atoms, too.
    fit, *_ = np.linalg.lstsq(known, energies, rcond=None)
    predicted, labelled = (energies - known @ fit).T
    norms = np.linalg.norm(predicted), np.linalg.norm(labelled)
    # What rounding leaves of equal numbers is no spread.
    if min(norms) < 1e-6 * np.sqrt(len(predicted)):
        return _UNRELATED
    cosine = float(predicted @ labelled / (norms[0] * norms[1]))
    # Frames of some systems tell as much as there are systems; of those of a single one,
    # neighbours of a trajectory resemble each other.
    systems = len(set(_systems(numbers)))
    independent = systems if systems > 1 else len(predicted) // 2
    # Fisher: the inverse hyperbolic tangent is nearly normal; a constant and a slope are fitted.
    deviations = np.arctanh(np.clip(abs(cosine), 0.0, 1 - 1e-12)) * np.sqrt(max(independent - 4, 0))
    related = bool(deviations > _CERTAIN) and abs(cosine) > _RELATED
    return _Relation(cosine, float(norms[1] / norms[0]), related)


def _of_forces(pairs: Pairs) -> _Relation:
    """Mean over systems of a cosine in which longer predictions, which are surer, weigh more.

    The ratio is the median, which a few large forces do not decide.
    """
    ratios, cosines, systems = [], [], []
    for system, forces in zip(_systems(pairs.numbers), pairs.forces, strict=True):
        lengths = np.linalg.norm(forces, axis=2)
        forces, lengths = (part[(lengths > _MIN_FORCE).all(1)] for part in (forces, lengths))
        if not len(forces):
            continue
        along = (forces[:, 0] * forces[:, 1]).sum(1) / lengths[:, 1]
        cosines.append(along.sum() / lengths[:, 0].sum())
        ratios.append(lengths[:, 1] / lengths[:, 0])
        systems.append(system)
    if not cosines:
        return _UNRELATED
    _, groups = np.unique(systems, return_inverse=True)
    of_systems = np.bincount(groups, cosines) / np.bincount(groups)
    cosine, atoms = float(of_systems.mean()), np.concatenate(ratios)
    related = abs(cosine) > _RELATED and abs(cosine) * np.sqrt(len(atoms)) > _CERTAIN
    if not related and abs(cosine) > _RELATED_EVERYWHERE and len(of_systems) > 1:
        error = of_systems.std(ddof=1) / np.sqrt(len(of_systems))
        chance = student.sf(abs(cosine) / max(error, 1e-12), len(of_systems) - 1)
        related = bool(chance < norm.sf(_CERTAIN))
    return _Relation(cosine, float(np.median(atoms)), bool(related))


def _systems(numbers: list[np.ndarray]) -> list[str]:
    """Of each structure, by its composition."""
    return [str(np.sort(one).tolist()) for one in numbers]


def _sign_note(found: _Relation, what: str, sign: str) -> str:
    return (
        f"the labelled {what} point against the predicted ones (cosine {found.cosine:.2f}): they "
        f"seem to be {sign}"
    )


def _unit_note(found: _Relation, what: str, likely: str, unit: str) -> str:
    return (
        f"the labelled {what} are {found.ratio:.3g} times as large as the predicted ones (cosine "
        f"{found.cosine:.2f}): they seem to be in {likely}, not in {unit}"
    )
