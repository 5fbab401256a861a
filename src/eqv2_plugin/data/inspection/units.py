"""Do energies and forces belong together? Both follow from one energy surface."""

from __future__ import annotations

from array import array

import numpy as np

from eqv2_plugin.common.findings import Finding, Verdict
from eqv2_plugin.data.inspection.frames import Frame
from eqv2_plugin.data.references.linear_fit import RunningMoments

# Å and eV: steps small enough for the trapezoid rule, work large enough to be no rounding.
_MAX_STEP, _MIN_WORK = 0.05, 1e-3
_MIN_PAIRS = 5
# dE / work is 1.00 over 3,093 pairs of OC20 (median), and 0.83 over 269 of CuM(111), relaxed in
# few and coarse steps. Wrong units make it 1.89 or more, or 0.53 or less.
_TOLERANCE = 0.3
# What dE / work becomes where the units differ.
_UNITS = {
    "energies in Hartree": 1 / 27.2114,
    "forces in Hartree/Bohr": 51.4221,
    "forces in Hartree/Å": 27.2114,
    "forces in kcal/mol/Å": 1 / 23.0605,
    "forces in kJ/mol/Å": 1 / 96.4853,
    "forces per Bohr (Hartree and Hartree/Bohr)": 1.889726,
    "positions in Bohr": 1 / 1.889726,
    "positions in nm": 10.0,
    "gradients in place of forces": -1.0,
}
# Frames in no order, as MD17's: mean square force * sqrt(half the free coordinates) / deviation
# of the energy is the force constant of a harmonic oscillator in equilibrium. It is 29 to 37
# eV/Å^2 for eight rMD17 molecules; Hartree and Hartree/Bohr make it 0.3, kcal/mol 700.
_MIN_FRAMES = 100
_STIFFNESS = (1.0, 200.0)


class UnitCheck:
    """Compares the change of the energy along a trajectory with the work of the forces."""

    def __init__(self) -> None:
        self.slopes = array("d")
        self.stiffnesses = array("d")
        self.before: Frame | None = None
        self._start()

    def _start(self) -> None:
        self.energy, self.squares = RunningMoments(), RunningMoments()

    def add(self, frame: Frame) -> None:
        forces = frame.free_forces
        if frame.energy is None or forces is None or not len(forces):
            return
        if not (np.isfinite(frame.energy) and np.isfinite(forces).all()):
            return
        before, self.before = frame.after(self.before), frame
        if before is None:
            self._close()
        self.energy.add(np.array([frame.energy]))
        self.squares.add(forces**2)
        if before is not None:
            self._compare(before, frame)

    def _compare(self, before: Frame, frame: Frame) -> None:
        if before.forces is None or frame.forces is None:
            return
        if not np.allclose(before.cell, frame.cell, atol=1e-6):
            return  # the stress works, too
        step = frame.displacement(before)
        if not np.isfinite(step).all() or np.abs(step).max() > _MAX_STEP:
            return
        work = -0.5 * float(((before.forces + frame.forces) * step).sum())
        if abs(work) > _MIN_WORK:
            self.slopes.append((frame.scalars["energy"] - before.scalars["energy"]) / work)

    def _close(self) -> None:
        """End of a system: the spread of its energies and the size of its forces."""
        if self.energy.count >= _MIN_FRAMES and self.energy.deviation > 0:
            coordinates = self.squares.count / self.energy.count
            ratio = self.squares.mean * np.sqrt(coordinates / 2) / self.energy.deviation
            self.stiffnesses.append(float(ratio))
        self._start()

    @property
    def work_ratio(self) -> float | None:
        """Change of the energy over the work of the forces, if most pairs of frames agree on it."""
        if len(self.slopes) < _MIN_PAIRS:
            return None
        slopes = np.asarray(self.slopes)
        median = float(np.median(slopes))
        if not median or float(np.median(abs(slopes / median - 1))) > _TOLERANCE:
            return None
        return median

    def findings(self) -> list[Finding]:
        self._close()
        if len(self.slopes) >= _MIN_PAIRS:
            return [self._work()]
        if self.stiffnesses:
            return [self._stiffness()]
        text = "cannot be told: no trajectories and no long series of one system"
        return [Finding("units of labels", Verdict.OK, text)]

    def _work(self) -> Finding:
        slope = float(np.median(self.slopes))
        text = f"energies change by {slope:.3g} times the work of the forces"
        text += f" ({len(self.slopes)} pairs of frames)"
        if abs(slope - 1) < _TOLERANCE:
            return Finding("units of labels", Verdict.OK, text)
        likely = [u for u, s in _UNITS.items() if abs(slope / s - 1) < _TOLERANCE]
        advice = " or ".join(likely) if likely else "labels of different methods or frames"
        return Finding("units of labels", Verdict.BAD, f"{text}: {advice}?")

    def _stiffness(self) -> Finding:
        stiffness = float(np.median(self.stiffnesses))
        text = f"stiffness of the bonds from forces and energies {stiffness:.3g} eV/Å²"
        low, high = _STIFFNESS
        if stiffness < low:
            return Finding("units of labels", Verdict.LOOK, f"{text}: Hartree and Bohr?")
        if stiffness > high:
            return Finding("units of labels", Verdict.LOOK, f"{text}: kcal/mol or kJ/mol?")
        return Finding("units of labels", Verdict.OK, text)
