"""Frames of two units in one data set: both labels are larger by one and the same factor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from eqv2_plugin.data.own.survey import Note

# Factor between the units, which are 13.6 apart at least; and within which that of energies and
# that of forces agree.
_FAR, _ALIKE = 8.0, 3.0
# Between the largest energy of the one and the smallest of the other.
_GAP = 2.0
_MIN_FRAMES = 2


def mixed_units_note(notes: Sequence[Note]) -> str:
    """A sentence where some frames seem to be in other units than the rest; else "".

    Frames of one composition are compared, and all by their energies per atom. Forces alone differ
    for many reasons, as do energies, but not both by the same factor.
    """
    groups: dict[bytes, list[int]] = defaultdict(list)
    for place, note in enumerate(notes):
        groups[np.sort(note.numbers).tobytes()].append(place)
    energies = np.array([abs(n.energy) / len(n.numbers) for n in notes])  # eV per atom
    forces = np.array([np.sqrt(n.square / max(n.free, 1)) for n in notes])  # eV/Å
    for places in [*groups.values(), list(range(len(notes)))]:
        rows = np.array(places)
        found = _upper(energies[rows], forces[rows])
        if found is not None:
            upper, factor = found
            first = notes[rows[upper].min()]
            return (
                f"{len(upper):,} of {len(rows):,} frames that are alike, {first.where} among them, "
                f"have energies and forces about {factor:.3g} times as large as the others: are "
                "they in other units (kcal/mol, Hartree, ...)?"
            )
    return ""


def _upper(energies: np.ndarray, forces: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Places of the frames in a larger unit, and the factor."""
    if len(energies) < 2 * _MIN_FRAMES or not forces.any():
        return None
    order = np.argsort(energies)
    steps = energies[order][1:] / np.maximum(energies[order][:-1], 1e-9)
    cut = int(steps[_MIN_FRAMES - 1 : len(steps) - _MIN_FRAMES + 1].argmax()) + _MIN_FRAMES
    lower, upper = order[:cut], order[cut:]
    of_energies, of_forces = (
        float(np.median(values[upper]) / max(np.median(values[lower]), 1e-9))
        for values in (energies, forces)
    )
    alike = 1 / _ALIKE < of_energies / max(of_forces, 1e-9) < _ALIKE
    if steps[cut - 1] < _GAP or min(of_energies, of_forces) < _FAR or not alike:
        return None
    return upper, of_forces
