"""Every check fires on the defect that it is for, and stays quiet on a sound model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from ase.constraints import FixAtoms
from doctor_inputs import (
    changed,
    energy_plus,
    examine,
    forces_plus,
    sound,
    structures,
    subject,
    swirl,
)

from eqv2_plugin.common.findings import Finding, Verdict
from eqv2_plugin.inference.predictor import Predict, Prediction

NOISE = np.random.default_rng(0)
CHECKS = {
    "rotation, float32", "rotation, float64", "permutation", "translation and images",
    "alone or in a batch", "same input twice", "net force", "force Jacobian symmetric",
    "forces against energy", "energy in NVE run", "speed",
}  # fmt: skip


def larger_batches_differ() -> Predict:
    def predict(batch):
        extra = 0.2 if len(batch) > 1 else 0.0
        return [Prediction(p.energy + extra, p.forces) for p in sound(batch)]

    return predict


def noise(size: float) -> Predict:
    return forces_plus(lambda atoms: size * NOISE.normal(size=(len(atoms), 3)))


DEFECTS = {
    "rotation, float32": changed(lambda p, _: Prediction(p.energy, p.forces * [1.0, 1.0, 1.3])),
    "permutation": energy_plus(lambda atoms: 0.3 * atoms.positions[0, 0]),
    "translation and images": energy_plus(lambda atoms: 0.1 * atoms.positions.sum()),
    "alone or in a batch": larger_batches_differ(),
    "same input twice": noise(1e-2),
    "net force": forces_plus(lambda atoms: np.tile([0.3, 0.0, 0.0], (len(atoms), 1))),
    "force Jacobian symmetric": forces_plus(swirl),
    "forces against energy": changed(lambda p, _: Prediction(p.energy, -2.0 * p.forces)),
    "energy in NVE run": forces_plus(swirl),
}


def test_a_sound_model_is_good_in_every_check():
    lines = examine(subject(sound))
    assert set(lines) == CHECKS
    unsound = {name: line.text for name, line in lines.items() if line.verdict != Verdict.GOOD}
    assert set(unsound) == {"speed"}, unsound
    assert lines["speed"].verdict == Verdict.INFO


@pytest.mark.parametrize("check", DEFECTS)
def test_a_planted_defect_is_bad(check):
    line = examine(subject(DEFECTS[check]), check)[check]
    assert line.verdict == Verdict.BAD, line.text


def test_tiny_noise_is_named_but_not_bad():
    line = examine(subject(noise(1e-6)), "same input twice")["same input twice"]
    assert line.verdict == Verdict.LOOK
    assert "not bit for bit" in line.text


def test_direct_forces_are_judged_by_other_limits_than_gradients():
    slightly = forces_plus(lambda atoms: 2.0 * swirl(atoms))
    for direct, verdict in ((False, Verdict.BAD), (True, Verdict.LOOK)):
        check = "force Jacobian symmetric"
        line = examine(subject(slightly, direct), check)[check]
        assert line.verdict == verdict, line.text


@pytest.mark.parametrize(
    ("check", "predict"),
    [
        ("force Jacobian symmetric", forces_plus(lambda atoms: 50.0 * swirl(atoms))),
        ("forces against energy", DEFECTS["forces against energy"]),
        ("energy in NVE run", forces_plus(lambda atoms: 50.0 * swirl(atoms))),
    ],
)
def test_direct_forces_are_not_bad_for_being_no_gradient(check, predict):
    line = examine(subject(predict, direct=True), check)[check]
    assert line.verdict == Verdict.LOOK, line.text
    assert "direct forces are no gradient" in line.text


def test_predictions_that_are_not_numbers_are_bad():
    lines = examine(subject(forces_plus(lambda atoms: np.full((len(atoms), 3), np.nan))))
    for check in CHECKS - {"speed"}:
        assert lines[check].verdict == Verdict.BAD, f"{check}: {lines[check].text}"


def test_a_model_that_fails_is_bad_and_says_how():
    def fail(batch):
        raise RuntimeError("no kernel image")

    lines = examine(subject(fail))
    assert set(lines) == CHECKS
    for line in lines.values():
        assert line.verdict == Verdict.BAD
        assert "RuntimeError: no kernel image" in line.text


def test_vanishing_forces_are_no_reason_to_pass():
    lines = examine(subject(changed(lambda p, _: Prediction(p.energy, 0.0 * p.forces))))
    for check in CHECKS - {"speed", "energy in NVE run"}:
        assert lines[check].verdict == Verdict.NOT_RUN
        assert "forces" in lines[check].text


def test_too_little_time_is_said():
    lines = examine(subject(sound), seconds=1e-4)
    for check in CHECKS - {"speed"}:
        assert lines[check].verdict == Verdict.NOT_RUN
        assert "raise --seconds" in lines[check].text


def test_a_model_without_float64_says_so_and_is_examined_in_float32():
    model = dataclasses.replace(subject(sound), predict_double="no room for float64")
    lines = examine(model, "rotation, float64", "force Jacobian symmetric")
    assert lines["rotation, float64"].verdict == Verdict.NOT_RUN
    assert lines["rotation, float64"].text == "no room for float64"
    assert lines["force Jacobian symmetric"].verdict == Verdict.GOOD


def test_fixed_atoms_leave_the_net_force_and_the_moved_atoms_out():
    held = structures()
    moving = ("force Jacobian symmetric", "energy in NVE run")
    for atoms in held:
        atoms.set_constraint(FixAtoms([0, 1]))
    lines = examine(subject(sound), "net force", *moving, atoms=held)
    assert lines["net force"].verdict == Verdict.NOT_RUN
    assert "2 atoms moved" in lines["force Jacobian symmetric"].text
    assert lines["energy in NVE run"].verdict == Verdict.GOOD
    for atoms in held:
        atoms.set_constraint(FixAtoms(range(4)))
    lines = examine(subject(sound), *moving, atoms=held)
    for check in moving:
        assert lines[check].verdict == Verdict.NOT_RUN
        assert "fixed" in lines[check].text


def with_stress(change: Callable[[np.ndarray], np.ndarray]) -> Predict:
    """The sound model with the stress of the periodic crystals, changed."""

    def predict(batch):
        found = []
        for prediction, atoms in zip(sound(batch), batch, strict=True):
            spread = atoms.positions - atoms.positions.mean(0)
            stress = change(spread.T @ prediction.forces) if atoms.pbc.all() else None
            found.append(Prediction(prediction.energy, prediction.forces, stress))
        return found

    return predict


def stress_of(predict: Predict, **options) -> Finding:
    check = "stress under rotation"
    return examine(dataclasses.replace(subject(predict), stress=True), check, **options)[check]


def test_a_stress_that_turns_with_the_structure_is_good_and_another_bad():
    covariant = with_stress(lambda virial: virial + virial.T)
    line = stress_of(covariant)
    assert line.verdict == Verdict.GOOD, line.text
    # What an activation of each component by itself makes of it.
    broken = with_stress(lambda virial: np.maximum(virial + virial.T, 0.0))
    line = stress_of(broken)
    assert line.verdict == Verdict.BAD
    assert line.numbers["stress_max_relative"] > 0.1


def test_stress_is_not_examined_without_a_volume():
    line = stress_of(with_stress(lambda virial: virial), atoms=structures()[2:])
    assert line.verdict == Verdict.NOT_RUN
    assert "periodic in three directions" in line.text
