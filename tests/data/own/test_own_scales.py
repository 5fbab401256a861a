"""The scale of what references leave of energies."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from eqv2_plugin.data.own.scales import fit_scales
from eqv2_plugin.data.own.survey import Note

OF_ELEMENTS = {1: -3.0, 6: -9.0, 8: -6.0}


def notes(formulas, error: float, seed: int = 0) -> list[Note]:
    rng, found = np.random.default_rng(seed), []
    for i, formula in enumerate(formulas):
        numbers = Atoms(formula).numbers
        energy = sum(OF_ELEMENTS[z] for z in numbers) + error * np.sqrt(len(numbers)) * rng.normal()
        found.append(Note(0, i, str(i), numbers, energy, 1.0, len(numbers), False, None, b""))
    return found


def rmsd(frames: list[Note]) -> float:
    return fit_scales(frames, {1, 6, 8}, "fit", ["energy"])[0]["energy_rmsd"]


SMALL = [f"C{1 + i % 3}H{2 + i % 4}O{1 + i % 2}" for i in range(60)]


def test_one_huge_frame_is_not_the_scale_of_all():
    small = notes(SMALL, 0.1)
    huge = notes(["C1000H2000O500"], 20.0)[0]
    assert abs(huge.energy + 18000) > 100
    assert rmsd([*small, huge]) < 2 * rmsd(small)


def test_of_frames_alike_it_is_the_root_mean_square():
    frames = notes(["C2H6O"] * 50, 0.1)
    energies = np.array([note.energy for note in frames])
    # A tenth is held out from the mean of the others.
    expected = energies.std()
    assert rmsd(frames) == pytest.approx(expected, rel=5e-2)
