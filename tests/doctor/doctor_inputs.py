"""Models with known defects, made of a sound one: ASE's effective medium theory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from unittest.mock import patch

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT

from eqv2_plugin.common.findings import Finding
from eqv2_plugin.doctor import examine as doctor
from eqv2_plugin.doctor.examination import Examination, Subject
from eqv2_plugin.inference.predictor import Predict, Prediction

Change = Callable[[Prediction, Atoms], Prediction]


def structures() -> list[Atoms]:
    """Two periodic crystals and a molecule of metal atoms, away from any symmetry."""
    found = [
        bulk("Cu", cubic=True),
        bulk("Ni", cubic=True),
        Atoms("Cu4", [[0, 0, 0], [2.5, 0, 0], [0.2, 2.4, 0], [0.9, 0.8, 2.2]]),
    ]
    for seed, atoms in enumerate(found):
        atoms.rattle(0.15, seed=seed)
    return found


def sound(batch: Sequence[Atoms]) -> list[Prediction]:
    found = []
    for atoms in batch:
        atoms = atoms.copy()
        atoms.calc = EMT()
        found.append(Prediction(atoms.get_potential_energy(), atoms.get_forces()))
    return found


def changed(change: Change) -> Predict:
    """The sound model with every prediction changed."""
    return lambda batch: [change(p, a) for p, a in zip(sound(batch), batch, strict=True)]


def forces_plus(extra: Callable[[Atoms], np.ndarray]) -> Predict:
    return changed(lambda p, atoms: Prediction(p.energy, p.forces + extra(atoms)))


def energy_plus(extra: Callable[[Atoms], float]) -> Predict:
    return changed(lambda p, atoms: Prediction(p.energy + extra(atoms), p.forces))


def swirl(atoms: Atoms) -> np.ndarray:
    """A force field that is the gradient of nothing: 0.5 z x (r - centre), eV/Å."""
    x, y, _ = (atoms.positions - atoms.positions.mean(0)).T
    return 0.5 * np.stack([-y, x, 0 * x], axis=1)


class PredictCalculator(Calculator):
    """ASE's view of a `Predict`."""

    implemented_properties = ("energy", "forces")

    def __init__(self, predict: Predict) -> None:
        super().__init__()
        self.predict = predict

    def calculate(self, atoms=None, properties=("energy",), system_changes=("positions",)):
        super().calculate(atoms, properties, system_changes)
        (prediction,) = self.predict([atoms])
        self.results = {"energy": prediction.energy, "forces": prediction.forces}


def subject(predict: Predict, direct: bool = False) -> Subject:
    return Subject(predict, predict, PredictCalculator(predict), direct, "cpu")


class SlowMotion:
    """A clock that only a prediction moves on, by 0.01 s for each structure.

    With it, what a check can afford does not depend on the machine.
    """

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def timed(self, predict: Predict) -> Predict:
        def slow(batch: Sequence[Atoms]) -> list[Prediction]:
            self.now += 0.01 * len(batch)
            return predict(batch)

        return slow


def examine(
    model: Subject, *checks: str, seconds: float = 6.0, atoms: list[Atoms] | None = None
) -> dict[str, Finding]:
    """What these checks find, by default all."""
    clock, double = SlowMotion(), model.predict_double
    model = dataclasses.replace(
        model,
        predict=clock.timed(model.predict),
        predict_double=double if isinstance(double, str) else clock.timed(double),
    )
    found = Examination(model, structures() if atoms is None else atoms, seconds, clock)
    wanted = {name: doctor.CHECKS[name] for name in checks or doctor.CHECKS}
    with patch.dict(doctor.CHECKS, wanted, clear=True):
        doctor.examine(found)
    return {finding.check: finding for finding in found.findings}
