"""Labels against a model: the same kind of energy? Said before a long run, not after it.

Labels serve metrics alone, so a run goes on. What a model's own error explains stays unsaid: the
bounds below are far beyond it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms

from eqv2_plugin.data.references.linear_fit import compositions_of
from eqv2_plugin.data.references.ridge import fit_ridge
from eqv2_plugin.inference.unit_agreement import ENERGY_UNITS, likely_unit
from eqv2_plugin.models.metadata import EnergyKind, as_energy_kind, same_energies

if TYPE_CHECKING:
    from eqv2_plugin.inference.predictor import Predict

# Structures that are compared.
MAX_COMPARED = 16
# Median difference, eV, and the same per atom, that no error of a model explains: adsorption
# energies differ from total ones by some eV per atom, a barely trained model errs by 2 eV at all.
_FAR, _FAR_PER_ATOM_OF_LARGE = 5.0, 0.1
_FAR_OF_SMALL, _FAR_PER_ATOM = 1.0, 0.5
_SPREADS = 2.0
# A constant, or one energy per element, explains differences of which it leaves this share.
_LEFT, _BETTER = 0.1, 0.3
# The same per atom, eV, and in units of its scatter.
_SHIFT, _SCATTERS = 0.25, 2.0
# Ratios of labels to predictions are alike where this share of them differs by less.
_MOST, _ALIKE = 0.8, 0.2
# Different compositions of which a constant is told from an error that frames of one share.
_COMPOSITIONS = 5
_MEANING = {
    EnergyKind.ADSORPTION: "adsorption energies",
    EnergyKind.TOTAL: "total energies",
    EnergyKind.TOTAL_LINEAR: "total energies",
    EnergyKind.LINEAR_RESIDUAL: "total energies minus fitted references",
}
_CONSEQUENCE = (
    "Energy errors then mean nothing; forces and positions do not depend on what an energy is "
    "relative to"
)


@dataclass(frozen=True)
class Compared:
    """One structure with a label."""

    numbers: np.ndarray  # [atoms] atomic numbers
    predicted: float  # energy, eV
    labelled: float  # energy, eV


def data_kind(data: Mapping[str, Any]) -> EnergyKind:
    """The kind of energy that a config states of its data (``energy_kind``), or unknown."""
    stated = data.get("energy_kind")
    return EnergyKind.UNKNOWN if stated is None else as_energy_kind(stated, "data.energy_kind")


def spread_out(count: int) -> list[int]:
    """Indices of up to `MAX_COMPARED` of ``count`` structures, evenly spaced: frames of one
    relaxation stand together, and tell less."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_COMPARED)).astype(int)).tolist()


def compare(predict: Predict, labelled: Iterable[tuple[Atoms, float | None]]) -> list[Compared]:
    """Predict labelled structures (energies in eV) one by one.

    One without a finite energy is left out, as is one that the model refuses or that does not fit
    into memory, which the run itself will name.
    """
    found = []
    for atoms, energy in labelled:
        if energy is None or not np.isfinite(energy):
            continue
        try:
            predicted = predict([atoms])[0].energy
        except (ValueError, MemoryError, torch.OutOfMemoryError):
            continue
        if np.isfinite(predicted):
            found.append(Compared(atoms.numbers.copy(), float(predicted), float(energy)))
    return found


def agreement_notes(
    kinds: str, predict: Predict, labelled: Mapping[str, Iterable[tuple[Atoms, float | None]]]
) -> list[str]:
    """What is wrong with the energies of data, found before a long run.

    Args:
        kinds: what is wrong with their kind; may be empty.
        labelled: {split: some of its structures, and their energies in eV}.
    """
    found = (magnitudes_note(compare(predict, some), split) for split, some in labelled.items())
    return [note for note in (kinds, *found) if note]


def kinds_note(model: EnergyKind, data: EnergyKind, what: str) -> str:
    """A sentence where a model and data are known to have different energies; else ""."""
    if same_energies(model, data) is not False:
        return ""
    return (
        f"{what} holds {_MEANING[data]}, but the model predicts {_MEANING[model]}. {_CONSEQUENCE}."
    )


def magnitudes_note(found: Sequence[Compared], what: str, scale: float = 0.0) -> str:
    """A sentence where predictions and labels cannot be the same kind of energy; else "".

    ``scale`` is the spread in eV of the energies that the model has learned from, where it is
    known: of a model that has learned nothing half of the errors are larger than two thirds of it.
    """
    if not found:
        return ""
    if factor := _factor(found):
        ratio = np.median([one.labelled / one.predicted for one in found])
        return (
            f"the energies of {what} are {ratio:.3g} times the predicted ones of nearly all "
            f"structures: they seem to be {factor}. Energy errors then mean nothing."
        )
    apart = np.array([one.predicted - one.labelled for one in found])
    atoms = np.array([len(one.numbers) for one in found])
    typical, per_atom = float(np.median(abs(apart))), float(np.median(abs(apart) / atoms))
    far = typical > max(_FAR, _FAR_PER_ATOM_OF_LARGE * float(np.median(atoms)))
    far |= typical > _FAR_OF_SMALL and per_atom > _FAR_PER_ATOM
    reason = _explained(found, apart) or _per_atom(apart / atoms)
    if not reason and (not far or typical < _SPREADS * scale):
        return ""
    number = f"{len(found)} structures" if len(found) > 1 else "1 structure"
    return (
        f"predicted energies differ from the labels of {what} by {typical:.3g} eV "
        f"({per_atom:.2g} eV per atom; median of {number}){reason}: beyond an error of "
        f"the model, so that labels and model seem to be different kinds of energy. {_CONSEQUENCE}."
    )


def _explained(found: Sequence[Compared], apart: np.ndarray) -> str:
    """What accounts for the differences; "" if nothing simple does, or they are small."""
    compositions = compositions_of([one.numbers for one in found])
    distinct = len(np.unique(compositions, axis=0))
    size = float(np.sqrt(np.mean(apart**2)))
    if size <= _FAR_OF_SMALL or distinct < _COMPOSITIONS:
        return ""
    shift = float(np.median(apart))
    spread = float(np.sqrt(np.mean((apart - shift) ** 2)))
    _, groups = np.unique(compositions, axis=0, return_inverse=True)
    held_out = fit_ridge(compositions, apart, groups.ravel()).held_out
    left = float(np.sqrt(np.mean(held_out**2)))
    # The fit has more freedom than a constant, and must be better for it.
    if left < min(_LEFT * size, _BETTER * spread):
        return ", which one energy per element accounts for"
    if spread < _LEFT * abs(shift):
        return f", by nearly the same {shift:+.3g} eV everywhere"
    return ""


def _factor(found: Sequence[Compared]) -> str:
    """What labels are in that are predictions times one factor, or per atom; "" if none are.

    It shows where most of an energy is references.
    """
    energies = np.array([(one.predicted, one.labelled) for one in found])
    if len(found) < _COMPOSITIONS or not energies.all():
        return ""
    ratios = energies[:, 1] / energies[:, 0]
    ratio = float(np.median(ratios))
    sizes = np.array([len(one.numbers) for one in found])
    if _is_nearly(ratios, -1.0):
        return "of the opposite sign"
    if _is_nearly(ratios * sizes, 1.0) and not _is_nearly(ratios, 1.0):
        return "in eV per atom"
    if ratio > 0 and _is_nearly(ratios, 1 / ENERGY_UNITS[(likely := likely_unit(ratio))]):
        return f"in {likely}, not in eV"
    return ""


def _is_nearly(numbers: np.ndarray, value: float) -> bool:
    """Whether most numbers are near a value, and their median nearer."""
    apart = abs(numbers / value - 1)
    return float(np.quantile(apart, _MOST)) < _ALIKE and float(np.median(apart)) < _ALIKE / 2


def _per_atom(apart: np.ndarray) -> str:
    """Whether all structures are apart by about as much per atom, in eV; "" if not."""
    shift, scatter = float(np.mean(apart)), float(np.std(apart))
    certain = len(apart) >= _COMPOSITIONS and abs(shift) > max(_SHIFT, _SCATTERS * scatter)
    return f", by about {shift:+.2g} eV per atom everywhere" if certain else ""
