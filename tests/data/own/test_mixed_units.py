"""Frames in other units among the rest are found, and what only differs is not."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units

from eqv2_plugin.data.own.mixed_units import mixed_units_note
from eqv2_plugin.data.own.survey import Note

KCAL = units.mol / units.kcal


def notes(count, energy, force, numbers=(8, 1, 1), first=0, seed=0, spread=0.2):
    """Frames with energies (eV) and forces (eV/Å) of about this size."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(first, first + count):
        square = len(numbers) * (force * np.exp(0.5 * rng.normal())) ** 2
        made.append(
            Note(0, i, f"a.xyz, frame {i}", np.array(numbers), energy + spread * rng.normal(),
                 square, len(numbers), False, None, b"")
        )  # fmt: skip
    return made


@pytest.mark.parametrize("factor", [KCAL, 1 / KCAL, 1 / units.Hartree, 1000.0])
@pytest.mark.parametrize("numbers", [(8, 1, 1), (6, 1, 1, 1, 1)])
def test_other_units_are_found(factor, numbers):
    """The same systems, or others, in another unit."""
    rest = notes(20, -14.0, 1.0)
    other = notes(8, -14.0 * factor, factor, numbers, first=20, seed=1, spread=0.2 * factor)
    found = mixed_units_note(rest + other)
    assert "in other units" in found
    assert f"{8 if factor > 1 else 20} of 28" in found


@pytest.mark.parametrize(
    "frames",
    [
        notes(20, -14.0, 1.0),
        notes(40, 0.0, 1.0),  # relative to their mean
        notes(20, -14.0, 0.02) + notes(20, -13.5, 2.0, first=20),  # relaxed and hot
        notes(20, -14.0, 1.0) + notes(20, -5e5, 1.0, (79,), first=20),  # all-electron gold
        notes(3, -14.0, 1.0),
        notes(20, -14.0, 0.0),
    ],
    ids=["water", "relative", "relaxed and hot", "gold", "few", "no forces"],
)
def test_what_only_differs_passes(frames):
    assert mixed_units_note(frames) == ""
