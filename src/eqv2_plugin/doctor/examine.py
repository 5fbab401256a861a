"""All checks, each with its share of the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from eqv2_plugin.doctor import thresholds
from eqv2_plugin.doctor.changes import Changes
from eqv2_plugin.doctor.finite_differences import (
    STEP,
    Differences,
    differences,
    neighbouring_atoms,
)
from eqv2_plugin.doctor.nve import TEMPERATURE, TIMESTEP, Run, nve_run
from eqv2_plugin.doctor.predictor import Predict
from eqv2_plugin.doctor.report import CannotRunError, Line, Verdict, judge, worst
from eqv2_plugin.doctor.speed import Timings, time_batches
from eqv2_plugin.doctor.symmetry import (
    batch_changes,
    net_forces,
    permutation_changes,
    repeat_changes,
    rotation_changes,
    stress_changes,
    translation_changes,
    with_volume,
    without_fixed_atoms,
)

# Share of the whole time that a check may take.
_SHARES = {
    "rotation": 0.12,
    "rotation, float64": 0.12,
    "stress": 0.05,
    "permutation": 0.05,
    "translation": 0.05,
    "repeat": 0.03,
    "batch": 0.05,
    "net force": 0.03,
    "differences": 0.20,
    "nve": 0.15,
    "speed": 0.15,
}
_ROTATIONS, _REPETITIONS, _MOVED_ATOMS, _STEPS = 16, 3, 6, 400  # wanted, if time allows
_LEAST_STEPS = 50


@dataclass(frozen=True)
class Subject:
    """A model in the forms that the checks need.

    Attributes:
        predict: in the precision that is used, float32.
        predict_double: in float64, or the reason why there is none.
        calculator: ASE calculator for dynamics.
        direct: whether forces come from a head of their own.
        device: "cpu" or "cuda".
        stress: whether it predicts stress.
    """

    predict: Predict
    predict_double: Predict | str
    calculator: Calculator
    direct: bool
    device: str
    stress: bool = False


@dataclass
class Examination:
    """The lines, and the measurements behind them for plots."""

    lines: list[Line] = field(default_factory=list)
    rotations: dict[str, np.ndarray] = field(default_factory=dict)
    differences: Differences | None = None
    run: Run | None = None
    timings: Timings | None = None

    @property
    def verdict(self) -> Verdict:
        return worst([line.verdict for line in self.lines])


_Outcome = tuple[Verdict, str, dict[str, float]]


class Examiner:
    """Runs the checks on one subject.

    Args:
        subject: the model.
        structures: see `choose_structures`.
        seconds: for all checks together; those that need more do less, or say so.
        clock: seconds, for the shares and for the speed.
    """

    def __init__(
        self,
        subject: Subject,
        structures: Sequence[Atoms],
        seconds: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.subject = subject
        self.structures = list(structures)
        self.smallest = min(structures, key=len)
        self.seconds = seconds
        self.clock = clock
        self.found = Examination()

    def run(self, progress: Callable[[str], None] = lambda name: None) -> Examination:
        """Examine; ``progress`` is told the name of each check before it begins."""
        checks: list[tuple[str, Callable[[], _Outcome]]] = [
            ("rotation, float32", lambda: self._rotation("float32", self.subject.predict)),
            ("rotation, float64", self._rotation_double),
            *([("stress under rotation", self._stress)] if self.subject.stress else []),
            ("permutation", self._permutation),
            ("translation and images", self._translation),
            ("alone or in a batch", self._batch),
            ("same input twice", self._repeat),
            ("net force", self._net_force),
            ("force Jacobian symmetric", self._jacobian),
            ("forces against energy", self._gradient),
            ("energy in NVE run", self._nve),
            ("speed", self._speed),
        ]
        for name, check in checks:
            progress(name)
            try:
                outcome = check()
            except CannotRunError as error:
                outcome = Verdict.NOT_RUN, str(error), {}
            except Exception as error:
                # A model that fails on a sound structure is a finding, not an end.
                outcome = Verdict.BAD, f"failed with {type(error).__name__}: {error}", {}
            self.found.lines.append(Line(name, *outcome))
        return self.found

    def _allowed(self, share: str) -> float:
        return _SHARES[share] * self.seconds

    def _affordable(self, share: str, cost: float, wanted: int, least: int = 1) -> int:
        allowed = self._allowed(share)
        count = min(wanted, int(allowed / cost))
        if count < least:
            raise CannotRunError(
                f"needs about {least * cost:.0f} s, but has {allowed:.1f} s: raise --seconds"
            )
        return count

    def _cost(self, predict: Predict, structures: Sequence[Atoms]) -> float:
        """Seconds to predict each structure once."""
        predict([self.smallest])  # the first call prepares the model
        begin = self.clock()
        predict([self.smallest])
        per_atom = (self.clock() - begin) / len(self.smallest)
        return per_atom * sum(len(atoms) for atoms in structures)

    def _rotation(self, precision: str, predict: Predict) -> _Outcome:
        share = "rotation" if precision == "float32" else "rotation, float64"
        count = self._affordable(share, self._cost(predict, self.structures), _ROTATIONS)
        changes = rotation_changes(predict, self.structures, count)
        self.found.rotations[precision] = changes.forces
        verdict = _judge_changes(changes, thresholds.ROTATION_FORCES)
        return verdict, f"{changes.text()}; {len(changes.forces)} rotations", changes.numbers()

    def _rotation_double(self) -> _Outcome:
        return self._rotation("float64", self._double())

    def _double(self) -> Predict:
        if isinstance(self.subject.predict_double, str):
            raise CannotRunError(self.subject.predict_double)
        return self.subject.predict_double

    def _stress(self) -> _Outcome:
        predict, structures = self.subject.predict, with_volume(self.structures)
        count = self._affordable("stress", self._cost(predict, structures), _ROTATIONS)
        found = stress_changes(predict, structures, count)
        numbers = {
            "stress_max_relative": float(found.max()),
            "stress_median_relative": float(np.median(found)),
        }
        text = (
            f"stress changes by {found.max():.1e} of its largest component "
            f"(median {np.median(found):.1e}); {len(found)} rotations"
        )
        return judge(float(found.max()), thresholds.ROTATION_STRESS), text, numbers

    def _permutation(self) -> _Outcome:
        return self._repeated("permutation", permutation_changes, thresholds.ROUNDING)

    def _translation(self) -> _Outcome:
        return self._repeated("translation", translation_changes, thresholds.TRANSLATION)

    def _repeated(
        self,
        share: str,
        check: Callable[[Predict, Sequence[Atoms], int], Changes],
        limits: thresholds.Limits,
    ) -> _Outcome:
        predict = self.subject.predict
        cost = self._cost(predict, self.structures)
        changes = check(predict, self.structures, self._affordable(share, cost, _REPETITIONS))
        return _judge_changes(changes, limits), changes.text(), changes.numbers()

    def _batch(self) -> _Outcome:
        predict = self.subject.predict
        self._affordable("batch", 2 * self._cost(predict, self.structures), 1)
        changes = batch_changes(predict, self.structures)
        text = f"{changes.text()}; batch of {len(changes.forces)}"
        return _judge_changes(changes, thresholds.ROUNDING), text, changes.numbers()

    def _repeat(self) -> _Outcome:
        predict = self.subject.predict
        cost = self._cost(predict, self.structures)
        count = self._affordable("repeat", cost, _REPETITIONS)
        changes = repeat_changes(predict, self.structures, count)
        forces, energies = changes.forces.max(), changes.energies.max()
        if forces == 0 and energies == 0:
            return Verdict.GOOD, "bit for bit the same", changes.numbers()
        verdict = worst([judge(forces, thresholds.REPEAT), judge(energies, thresholds.REPEAT)])
        return verdict, f"not bit for bit: {changes.text()}", changes.numbers()

    def _net_force(self) -> _Outcome:
        predict = self.subject.predict
        free = without_fixed_atoms(self.structures)
        self._affordable("net force", self._cost(predict, free), 1)
        largest = float(net_forces(predict, free).max())
        text = f"{largest:.1e} of the mean force, per atom"
        return judge(largest, thresholds.NET_FORCE), text, {"relative_per_atom": largest}

    def _moved(self) -> Differences:
        if self.found.differences is None:
            double = self.subject.predict_double
            predict = self.subject.predict if isinstance(double, str) else double
            step = STEP["float32" if isinstance(double, str) else "float64"]
            cost = 6 * self._cost(predict, [self.smallest])
            count = self._affordable("differences", cost, _MOVED_ATOMS, least=2)
            moved = neighbouring_atoms(self.smallest, count)
            self.found.differences = differences(predict, self.smallest, moved, step)
        return self.found.differences

    def _jacobian(self) -> _Outcome:
        found = self._moved()
        asymmetry, direct = found.asymmetry(), self.subject.direct
        limits = thresholds.JACOBIAN_DIRECT if direct else thresholds.JACOBIAN_GRADIENT
        text = f"|J - J^T| / |J + J^T| = {asymmetry:.1e}; {len(found.forces) // 3} atoms moved"
        return judge(asymmetry, limits), text, {"asymmetry": asymmetry}

    def _gradient(self) -> _Outcome:
        error = self._moved().gradient_error()
        limits = thresholds.GRADIENT_DIRECT if self.subject.direct else thresholds.GRADIENT
        return judge(error, limits), f"|F + dE/dx| / |F| = {error:.1e}", {"relative": error}

    def _nve(self) -> _Outcome:
        cost = self._cost(self.subject.predict, [self.smallest])
        steps = self._affordable("nve", cost, _STEPS, _LEAST_STEPS)
        self.found.run = run = nve_run(self.smallest, self.subject.calculator, steps)
        text = (
            f"drift {run.drift:+.2g} meV/atom/ps (fluctuation may feign {run.resolution:.1g}); "
            f"{steps} steps of {TIMESTEP:g} fs from {TEMPERATURE:.0f} K"
        )
        numbers = {"drift_meV_per_atom_ps": run.drift, "fluctuation_meV_per_atom": run.fluctuation}
        return run.verdict(), text, numbers

    def _speed(self) -> _Outcome:
        predict, device = self.subject.predict, self.subject.device
        self.found.timings = t = time_batches(
            predict, self.smallest, device, self._allowed("speed"), self.clock
        )
        bound = "" if t.is_limit else "at least "
        text = (
            f"{len(self.smallest)} atoms: {t.seconds[0]:.3g} s alone, {t.best:.3g} s at best in a "
            f"batch; largest batch on this {device}: {bound}{t.sizes[-1]} ({t.stopped})"
        )
        numbers = {
            "seconds_alone": t.seconds[0],
            "seconds_best": t.best,
            "largest_batch": float(t.sizes[-1]),
            "largest_batch_is_limit": float(t.is_limit),
            "atoms": float(len(self.smallest)),
            "peak_bytes": float(t.peak_bytes),
        }
        return Verdict.INFO, text, numbers


def _judge_changes(changes: Changes, limits: thresholds.Limits) -> Verdict:
    forces, energies = changes.forces.max(), changes.energies.max()
    return worst([judge(forces, limits), judge(energies, thresholds.ENERGY_CHANGE)])
