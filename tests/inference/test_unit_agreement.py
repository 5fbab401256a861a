"""Units and signs of labels, told from a model that has learned little or from harder frames."""

from __future__ import annotations

import numpy as np
import pytest
from ase import units

from eqv2_plugin.inference.unit_agreement import Pairs, energy_unit_note, force_unit_note

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
    forces = both(864, 0.0).reshape(48, 6, 3, 2).swapaxes(2, 3) * [[1.0], [force]]
    return Pairs(numbers, both(48, -300.0) * [1.0, energy], list(forces))


def unit_notes(pairs: Pairs) -> list[str]:
    return [note for note in (energy_unit_note(pairs), force_unit_note(pairs)) if note]


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
    few = [full.forces[0], *[part[:0] for part in full.forces[1:4]]]
    assert unit_notes(Pairs(full.numbers[:4], full.energies[:4], few)) == []
    # 48 frames of three systems are three energies.
    of_three = [full.numbers[i % 3] for i in range(48)]
    assert unit_notes(Pairs(of_three, full.energies, [part[:0] for part in full.forces])) == []
    constant = Pairs(full.numbers[:20], np.full((20, 2), -3.0), [np.zeros((2, 2, 3))] * 20)
    assert unit_notes(constant) == []


def test_a_model_that_has_learned_the_size_alone_is_not_judged_by_it():
    """Energies per atom of an untrained model are nearly constant."""
    rng = np.random.default_rng(0)
    numbers = pairs(0.0).numbers
    sizes = np.array([len(one) for one in numbers])
    energies = np.stack((0.01 * sizes, -4.0 * sizes + rng.normal(size=48)), axis=1)
    energies[:, 0] += 1e-3 * rng.normal(size=48)
    assert unit_notes(Pairs(numbers, energies, [np.empty((0, 2, 3))] * 48)) == []


def weak_forces(cosine: float, systems: int, seed: int = 0) -> Pairs:
    """Of a model that has hardly learned forces, but as much everywhere."""
    rng = np.random.default_rng(seed)
    labels, noise = rng.normal(size=(2, systems, 80, 3))
    predicted = cosine * (cosine * labels + np.sqrt(1 - cosine**2) * noise)
    numbers = [np.array([1] * (i + 1)) for i in range(systems)]
    return Pairs(numbers, np.zeros((systems, 2)), list(np.stack((predicted, labels), axis=2)))


def test_a_weak_model_that_agrees_everywhere_tells_the_sign():
    found = weak_forces(0.15, 12)
    assert force_unit_note(found) == ""
    flipped = Pairs(found.numbers, found.energies, [p * [[1.0], [-1.0]] for p in found.forces])
    assert "gradients" in force_unit_note(flipped)
    # Of two systems one cannot know.
    assert force_unit_note(Pairs(found.numbers[:2], found.energies[:2], flipped.forces[:2])) == ""


def test_nearly_relaxed_frames_are_no_mismatch():
    """What is predicted of them is mostly error, ten times their forces."""
    rng = np.random.default_rng(7)
    found = weak_forces(0.99, 20)
    forces = [part * [[1.0], [0.1]] for part in found.forces]
    for part in forces:
        part[:, 0] = part[:, 1] + rng.normal(size=(80, 3))
    assert force_unit_note(Pairs(found.numbers, found.energies, forces)) == ""


def test_few_systems_tell_where_predictions_are_near():
    """Ten systems, whose adsorption energies are known within a fifth of their spread."""
    full = pairs(0.98, -1.0)
    numbers = [full.numbers[i // 4] for i in range(40)]
    assert "opposite sign" in energy_unit_note(Pairs(numbers, full.energies[:40], full.forces[:40]))


def test_energies_per_atom_are_named():
    full = pairs(0.99)
    numbers = [np.repeat(one, 4) for one in full.numbers]
    energies = full.energies + np.array([0.0, 300.0])
    energies[:, 1] /= [len(one) for one in numbers]
    assert "eV per atom, not in eV" in energy_unit_note(Pairs(numbers, energies, full.forces))
