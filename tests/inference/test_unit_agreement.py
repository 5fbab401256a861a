"""Units and signs of labels, told from a model that has learned little or from harder frames."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units

from eqv2_plugin.inference.unit_agreement import Pairs, unit_notes

KCAL, BOHR = units.kcal / units.mol, units.Bohr


def pairs(quality: float, energy: float = 1.0, force: float = 1.0, seed: int = 0) -> Pairs:
    """Labels times factors beside predictions that resemble them by a cosine of ``quality``."""
    rng = np.random.default_rng(seed)

    def both(count: int, mean: float) -> np.ndarray:
        labels, noise = rng.normal(size=(2, count))
        # As a model that minimises its error predicts: less than what is there.
        predicted = quality * (quality * labels + np.sqrt(1 - quality**2) * noise)
        return np.stack([predicted + mean, labels + mean], axis=1)

    numbers = [np.array([1] * (i % 7) + [8] * (i // 7 + 1)) for i in range(48)]
    forces = both(900, 0.0).reshape(300, 3, 2).swapaxes(1, 2) * [[1.0], [force]]
    return Pairs(numbers, both(48, -300.0) * [1.0, energy], forces)


@pytest.mark.parametrize("quality", [0.5, 0.99])
@pytest.mark.parametrize(
    ("energy", "force", "expected"),
    [
        (1 / KCAL, 1 / KCAL, ["kcal/mol,", "kcal/mol/Å"]),
        (1 / units.Hartree, BOHR / units.Hartree, ["Hartree,", "Hartree/Bohr"]),
        (1.0, 1 / units.Hartree, ["Hartree/Å"]),
        (1e3, 1e3, ["meV,", "meV/Å"]),
        (1.0, -1.0, ["gradients"]),
        (-1.0, 1.0, ["opposite sign"]),
    ],
    ids=["kcal", "atomic units", "Hartree/Å", "meV", "gradients", "sign of energies"],
)
def test_other_units_and_signs_are_named(quality, energy, force, expected):
    # A weak model predicts too little; its labels look larger than they are.
    if quality < 0.9 and 0.01 < abs(force) < 0.04:
        expected = [one.replace("Hartree/Bohr", "Bohr").replace("Hartree", "") for one in expected]
    notes = unit_notes(pairs(quality, energy, force))
    assert len(notes) == len(expected), notes
    if quality > 0.9:
        assert all(part in note for part, note in zip(expected, notes, strict=True)), notes


@pytest.mark.parametrize("quality", [0.0, 0.25, 0.99])
@pytest.mark.parametrize("seed", range(10))
def test_what_a_model_has_not_learned_is_no_mismatch(quality, seed):
    assert unit_notes(pairs(quality, seed=seed)) == []


def test_harder_frames_are_no_mismatch():
    """Forces three times those of the frames that the model has seen, half of them predicted."""
    assert unit_notes(pairs(0.6, 2.0, 3.0)) == []


def test_a_few_numbers_say_nothing():
    full = pairs(0.99, 1 / KCAL, 1 / KCAL)
    assert unit_notes(Pairs(full.numbers[:4], full.energies[:4], full.forces[:4])) == []
    # 48 frames of three systems are three energies.
    of_three = [full.numbers[i % 3] for i in range(48)]
    assert unit_notes(Pairs(of_three, full.energies, full.forces[:0])) == []
    constant = Pairs(full.numbers[:20], np.full((20, 2), -3.0), np.zeros((33, 2, 3)))
    assert unit_notes(constant) == []


def test_a_model_that_has_learned_the_size_alone_is_not_judged_by_it():
    """Energies per atom of an untrained model are nearly constant."""
    rng = np.random.default_rng(0)
    numbers = pairs(0.0).numbers
    sizes = np.array([len(one) for one in numbers])
    energies = np.stack((0.01 * sizes, -4.0 * sizes + rng.normal(size=48)), axis=1)
    energies[:, 0] += 1e-3 * rng.normal(size=48)
    assert unit_notes(Pairs(numbers, energies, np.empty((0, 2, 3)))) == []
