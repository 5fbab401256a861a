"""Is the stress there and finite, and in eV/Å^3 with the right sign?"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np

from eqv2_plugin.common.findings import Finding, Tally, Verdict
from eqv2_plugin.data.inspection.frames import Frame, minimum_image

# Shear against forces: |deviatoric stress| V / (sqrt(atoms) d |F|), d^3 the volume of an atom, |F|
# root mean square. Both come from the same bonds, one as the sum of r f, the other of f: medians of
# 20 frames are 0.25 to 2.1 in each of five sets of inorganic crystals (2,783 frames of 89 elements,
# cold and hot, up to 1000 GPa). GPa make 40 or more of it, Hartree/Bohr^3 0.0115 or less.
# Too little is never bad: one atom moved from a symmetric place hardly strains a crystal.
_SHEAR_POSSIBLE, _SHEAR_USUAL = (0.0, 30.0), (0.06, 8.0)
_SHEAR = 0.6
_MIN_FORCE = 0.05  # eV/Å: relaxed atoms tell nothing
_MIN_FRAMES = 5
# Largest component times volume per atom, eV. Medians are 0.03 (relaxed crystals) to 6.2 (the most
# strained thousand of MPtrj); the largest of 3,933 frames is 223, of the relaxed ones 0.6.
_VIRIAL_BAD, _VIRIAL_RELAXED, _VIRIAL_OUTLIER = 20.0, 1.0, 300.0
# Frames of one system whose cell changes: dE is the work of stress and forces.
_MAX_STRAIN, _MAX_STEP, _MIN_WORK = 0.03, 0.1, 1e-3
_MIN_PAIRS = 5
# A basis that changes with the cell (Pulay stress) takes some of the work, but no factor of it.
_WORK_POSSIBLE, _WORK_USUAL = (0.3, 3.0), (0.5, 1.5)
_ASYMMETRY = 1e-2  # of the largest component
# What a stress in this unit is, in eV/Å^3 as a number.
_UNITS = {
    "GPa": 160.2177,
    "kbar": 1602.177,
    "Hartree/Bohr^3": 1 / 183.6316,
    "the other sign (pressure, VASP's or CP2K's output)": -1.0,
    "GPa with the other sign": -160.2177,
    "kbar with the other sign": -1602.177,
}


class StressCheck:
    """Presence, finite numbers, symmetry, magnitude and sign of the stress."""

    def __init__(self) -> None:
        self.frames = 0
        self.seen = Tally()
        self.virials, self.shears, self.works = array("d"), array("d"), array("d")
        self.largest = (0.0, "")
        self.before: Frame | None = None

    def add(self, frame: Frame) -> None:
        self.frames += 1
        volume = abs(float(np.linalg.det(frame.cell)))
        if frame.stress is None:
            self.seen.add("missing", frame.name)
        elif not np.isfinite(frame.stress).all():
            self.seen.add("infinite", frame.name)
        elif not frame.pbc.all() or not volume > 0:
            self.seen.add("open", frame.name)
        else:
            self._measure(frame, frame.stress, volume)

    def _measure(self, frame: Frame, stress: np.ndarray, volume: float) -> None:
        most = float(np.abs(stress).max())
        if np.abs(stress - stress.T).max() > _ASYMMETRY * most:
            self.seen.add("asymmetric", frame.name)
        virial = most * volume / max(len(frame.numbers), 1)
        self.virials.append(virial)
        self.largest = max(self.largest, (virial, frame.name))
        if (shear := _shear_ratio(frame, volume)) is not None:
            self.shears.append(shear)
        before, self.before = frame.after(self.before), frame
        if before is not None and (work := _work_ratio(before, frame)) is not None:
            self.works.append(work)

    def findings(self) -> list[Finding]:
        """Nothing where no frame has stress: most data sets have none."""
        if self.seen["missing"] == self.frames:
            return []
        found = [Finding("stress labels", *self._presence())]
        if self.virials:
            found.append(self._magnitude())
        return found

    def _presence(self) -> tuple[Verdict, str]:
        times, of = self.seen, f"of {self.frames} frames"
        if times["infinite"]:
            text = f"{times['infinite']} {of} have values that are not finite"
            return Verdict.BAD, f"{text}: {times.first('infinite')}"
        if times["missing"]:
            text = f"missing in {times['missing']} {of} (first: {times.first('missing')})"
            return Verdict.BAD, text
        if times["open"]:
            return Verdict.BAD, (
                f"{times['open']} {of} have stress, but are not periodic in all three directions: "
                f"its volume is arbitrary (first: {times.first('open')})"
            )
        if times["asymmetric"]:
            text = f"not symmetric in {times['asymmetric']} {of}"
            return Verdict.LOOK, f"{text} (first: {times.first('asymmetric')})"
        return Verdict.OK, "in every frame, finite"

    def _magnitude(self) -> Finding:
        """The strongest evidence that there is: energies, then forces, then the size alone."""
        virial = float(np.median(self.virials))
        text = f"median |stress| x volume {virial:.3g} eV per atom"
        if len(self.works) >= _MIN_PAIRS:
            text += "; its work at strained cells is {} times the change of the energy"
            return _judged(text, self.works, 1.0, _WORK_POSSIBLE, _WORK_USUAL)
        if len(self.shears) >= _MIN_FRAMES:
            text += "; shear against forces {} (usual: 0.2 to 2)"
            found = _judged(text, self.shears, _SHEAR, _SHEAR_POSSIBLE, _SHEAR_USUAL)
            if found.verdict is not Verdict.OK:
                return found
            text = found.text
        if virial > _VIRIAL_BAD:
            # Forces that agree outweigh the size: cells can be compressed without limit.
            agree = len(self.shears) >= _MIN_FRAMES
            text += f": more than {_VIRIAL_BAD:g} is very much; GPa or kbar in place of eV/Å^3?"
            return _said(Verdict.LOOK if agree else Verdict.BAD, text)
        if len(self.shears) < _MIN_FRAMES and virial > _VIRIAL_RELAXED:
            return _said(Verdict.LOOK, f"{text}: much for atoms without forces; GPa in place of "
                              "eV/Å^3?")  # fmt: skip
        if self.largest[0] > _VIRIAL_OUTLIER:
            return _said(Verdict.LOOK, f"{text}; {self.largest[0]:.3g} in {self.largest[1]}: "
                              "outlier, or another unit?")  # fmt: skip
        return _said(Verdict.OK, text)


def _judged(
    text: str,
    ratios: Sequence[float],
    expected: float,
    possible: tuple[float, float],
    usual: tuple[float, float],
) -> Finding:
    """What the median of the ratios, which goes into the text, says of the unit."""
    ratio = float(np.median(ratios))
    text = text.format(f"{ratio:.3g}")
    if usual[0] < ratio < usual[1]:
        return _said(Verdict.OK, text)
    likely = [u for u, size in _UNITS.items() if 0.2 < ratio / (expected * size) < 5]
    verdict = Verdict.LOOK if possible[0] < ratio < possible[1] else Verdict.BAD
    return _said(verdict, f"{text}: {' or '.join(likely) or 'another unit'}?")


def _said(verdict: Verdict, text: str) -> Finding:
    return Finding("units of stress", verdict, text)


def _shear_ratio(frame: Frame, volume: float) -> float | None:
    if frame.stress is None or frame.forces is None or not np.isfinite(frame.forces).all():
        return None
    count = len(frame.numbers)
    force = float(np.sqrt((frame.forces**2).sum(1).mean()))
    shear = np.linalg.norm(frame.stress - np.trace(frame.stress) / 3 * np.eye(3))
    # Symmetry makes it zero, to rounding.
    if force < _MIN_FORCE or shear < 1e-4 * np.abs(frame.stress).max():
        return None
    return float(shear * volume / (np.sqrt(count) * (volume / count) ** (1 / 3) * force))


def _work_ratio(before: Frame, frame: Frame) -> float | None:
    """Work of the stress over what it must be: the energy's change without the forces' work."""
    if before.stress is None or frame.stress is None:
        return None
    if before.energy is None or frame.energy is None:
        return None
    scaled = [np.linalg.solve(f.cell.T, f.positions.T).T for f in (before, frame)]
    strain = np.linalg.solve(before.cell, frame.cell) - np.eye(3)
    step = minimum_image((scaled[1] - scaled[0]) @ frame.cell, frame.cell, frame.pbc)
    if not 1e-5 < np.abs(strain).max() < _MAX_STRAIN or np.abs(step).max() > _MAX_STEP:
        return None
    volume = abs(np.linalg.det(before.cell) + np.linalg.det(frame.cell)) / 2
    # Hydrostatic and shear alike: sigma : strain.
    of_stress = volume * float((0.5 * (before.stress + frame.stress) * strain).sum())
    of_forces = 0.0
    if before.forces is not None and frame.forces is not None:
        of_forces = float((0.5 * (before.forces + frame.forces) * step).sum())
    change = frame.energy - before.energy + of_forces
    if not np.isfinite([of_stress, change]).all() or abs(change) < _MIN_WORK:
        return None
    return of_stress / change
