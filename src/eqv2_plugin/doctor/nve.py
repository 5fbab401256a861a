"""Does a short run at constant energy keep it?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet

from eqv2_plugin.common.findings import Verdict
from eqv2_plugin.data.fixed_atoms import fixed_mask
from eqv2_plugin.doctor.examination import (
    CannotRunError,
    Examination,
    Limits,
    Outcome,
    spare_direct,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# meV per moving atom and ps. A harmonic solid holds 3 kT = 78 meV per atom at 300 K: 5 of it is
# 20 K per ps, 50 is 190 K per ps, which no thermostat hides.
_DRIFT = Limits(good=5.0, bad=50.0)

_TEMPERATURE = 300.0  # K
_TIMESTEP = 0.5  # fs: short enough for bonds of hydrogen
_STEPS, _MIN_STEPS = 400, 50


@dataclass(frozen=True)
class Run:
    """Energies along a run."""

    times: np.ndarray  # [frames] ps
    energies: np.ndarray  # [frames] potential + kinetic, meV per moving atom; the first is 0

    @property
    def drift(self) -> float:
        """Slope of the energy, meV per atom and ps; NaN if an energy is not finite."""
        return float(self._line()[0])

    @property
    def fluctuation(self) -> float:
        """Standard deviation about that slope, meV per atom."""
        return float(np.std(self.energies - np.polyval(self._line(), self.times)))

    @property
    def resolution(self) -> float:
        """Drift that the fluctuation alone can look like in so short a run, meV/atom/ps."""
        return 2.0 * self.fluctuation / float(self.times[-1]) if len(self.times) > 1 else np.nan

    def verdict(self) -> Verdict:
        """By the drift; one that the run cannot tell from fluctuation is never bad."""
        found = _DRIFT.judge(abs(self.drift))
        unresolved = abs(self.drift) <= self.resolution
        return Verdict.LOOK if found is Verdict.BAD and unresolved else found

    def _line(self) -> np.ndarray:
        finite = np.isfinite(self.energies).all()
        return np.polyfit(self.times, self.energies, 1) if finite else np.full(2, np.nan)


def nve(exam: Examination) -> Outcome:
    """Drift of the total energy of the smallest structure."""
    cost = exam.cost(exam.subject.predict, [exam.smallest])
    steps = exam.affordable(0.15, cost, _STEPS, _MIN_STEPS)
    exam.measured["run"] = run = _run(exam.smallest, exam.subject.calculator, steps)
    text = (
        f"drift {run.drift:+.2g} meV/atom/ps (resolved beyond {run.resolution:.1g}); "
        f"{steps} steps of {_TIMESTEP:g} fs from {_TEMPERATURE:.0f} K"
    )
    numbers = {"drift_meV_per_atom_ps": run.drift, "fluctuation_meV_per_atom": run.fluctuation}
    verdict, words = spare_direct(run.verdict(), run.drift, exam.subject.direct)
    return verdict, text + words, numbers


def plot(axis: Axes, run: Run) -> None:
    """Energy against time."""
    axis.plot(run.times, run.energies, lw=1.2)


def _run(atoms: Atoms, calculator: Calculator, steps: int) -> Run:
    """Velocity Verlet from a Maxwell-Boltzmann distribution; fixed atoms stay where they are."""
    atoms = atoms.copy()
    atoms.calc = calculator
    moving = atoms.get_number_of_degrees_of_freedom() / 3
    if moving == 0:
        raise CannotRunError("every atom of the structure is fixed")
    MaxwellBoltzmannDistribution(atoms, temperature_K=_TEMPERATURE, rng=np.random.default_rng(0))
    if not fixed_mask(atoms).any():
        Stationary(atoms)
    dynamics = VelocityVerlet(atoms, timestep=_TIMESTEP * units.fs)
    energies = []
    for _ in dynamics.irun(steps):  # the first frame, too
        energies.append(atoms.get_total_energy())
        if not np.isfinite(energies[-1]):
            break
    relative = 1e3 * (np.array(energies) - energies[0]) / moving
    return Run(np.arange(len(energies)) * _TIMESTEP * 1e-3, relative)
