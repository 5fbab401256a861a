"""Does a short run at constant energy keep it?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet

from eqv2_plugin.doctor.report import CannotRunError, Verdict, judge
from eqv2_plugin.doctor.structures import fixed_atoms
from eqv2_plugin.doctor.thresholds import NVE_DRIFT

TEMPERATURE = 300.0  # K
TIMESTEP = 0.5  # fs: short enough for bonds of hydrogen


@dataclass(frozen=True)
class Run:
    """Energies along a run.

    Attributes:
        times: [frames] ps.
        energies: [frames] potential plus kinetic energy, meV per moving atom, the first is 0.
    """

    times: np.ndarray
    energies: np.ndarray

    @property
    def drift(self) -> float:
        """Slope of the energy, meV per atom and ps; NaN if an energy is not finite."""
        if not np.isfinite(self.energies).all():
            return float("nan")
        return float(np.polyfit(self.times, self.energies, 1)[0])

    @property
    def fluctuation(self) -> float:
        """Standard deviation about that slope, meV per atom."""
        if not np.isfinite(self.energies).all():
            return float("nan")
        fitted = np.polyval(np.polyfit(self.times, self.energies, 1), self.times)
        return float(np.std(self.energies - fitted))

    @property
    def resolution(self) -> float:
        """Drift that the fluctuation alone could feign in so short a run, meV per atom and ps."""
        return 2.0 * self.fluctuation / float(self.times[-1]) if len(self.times) > 1 else np.nan

    def verdict(self) -> Verdict:
        """By the drift; one that the run cannot tell from fluctuation is never bad."""
        found = judge(abs(self.drift), NVE_DRIFT)
        feigned = abs(self.drift) <= self.resolution
        return Verdict.LOOK if found is Verdict.BAD and feigned else found


def nve_run(atoms: Atoms, calculator: Calculator, steps: int, seed: int = 0) -> Run:
    """Velocity Verlet from a Maxwell-Boltzmann distribution; fixed atoms stay where they are.

    Raises:
        CannotRunError: every atom is fixed.
    """
    atoms = atoms.copy()
    atoms.calc = calculator
    moving = atoms.get_number_of_degrees_of_freedom() / 3
    if moving == 0:
        raise CannotRunError("every atom of the structure is fixed")
    MaxwellBoltzmannDistribution(atoms, temperature_K=TEMPERATURE, rng=np.random.default_rng(seed))
    if len(fixed_atoms(atoms)) == 0:
        Stationary(atoms)
    dynamics = VelocityVerlet(atoms, timestep=TIMESTEP * units.fs)
    energies = []
    for _ in dynamics.irun(steps):  # the first frame, too
        energies.append(atoms.get_total_energy())
        if not np.isfinite(energies[-1]):
            break
    relative = 1e3 * (np.array(energies) - energies[0]) / moving
    return Run(np.arange(len(energies)) * TIMESTEP * 1e-3, relative)
