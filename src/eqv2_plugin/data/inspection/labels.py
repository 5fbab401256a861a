"""Are the labels there, in one place, finite and possible?"""

from __future__ import annotations

from array import array
from collections import Counter
from operator import itemgetter

import numpy as np

from eqv2_plugin.common.findings import Finding, Tally, Verdict, listed
from eqv2_plugin.data.inspection.frames import Frame
from eqv2_plugin.data.labels import READ_FROM

# eV. Total energy of all electrons of a Thomas-Fermi atom is -_THOMAS_FERMI * Z^(7/3), more than
# any method gives and far more than with pseudopotentials or references. Energies in meV,
# kJ/mol or kcal/mol taken for eV are 1000, 96 or 23 times too large; all-electron ones then
# exceed it.
_THOMAS_FERMI = 20.92
# eV per atom. Energies of pseudopotential codes and referenced energies lie in -13..+12 in 16,000
# OC20, OC22, CuM(111) and inorganic frames (+12: shattered crystals at high temperature);
# all-electron energies lie below -400 (rMD17). In between there is nothing usual.
_USUAL = (-50.0, 20.0)


class LabelCheck:
    """Energies and forces: there, finite, possible, and nowhere else."""

    def __init__(self) -> None:
        self.frames = 0
        self.seen = Tally()
        self.unread: Counter[str] = Counter()
        self.numbers: set[str] = set()
        self.energies = array("d")  # per atom, finite ones
        self.lowest, self.highest = (np.inf, ""), (-np.inf, "")

    def add(self, frame: Frame) -> None:
        self.frames += 1
        self.numbers.update(frame.scalars)
        self.unread.update(frame.unread)
        if frame.conflicts:
            self.seen.add("contradiction", f"{frame.name}: {frame.conflicts[0]}")
        for label, value in (("energy", frame.energy), ("force", frame.forces)):
            if value is None:
                self.seen.add(f"{label} missing", frame.name)
            elif not np.isfinite(value).all():
                self.seen.add(f"{label} infinite", frame.name)
        energy = frame.energy
        if energy is None or not np.isfinite(energy) or len(frame.numbers) == 0:
            return
        per_atom = energy / len(frame.numbers)
        self.energies.append(per_atom)
        self.lowest = min(self.lowest, (per_atom, frame.name), key=itemgetter(0))
        self.highest = max(self.highest, (per_atom, frame.name), key=itemgetter(0))
        if abs(energy) > _THOMAS_FERMI * (np.maximum(frame.numbers, 0) ** (7 / 3)).sum():
            self.seen.add("impossible", frame.name)

    def findings(self) -> list[Finding]:
        found = self._sources()
        found += [Finding(f"{kind} labels", *self._presence(kind)) for kind in ("energy", "force")]
        if self.energies:
            found.append(Finding("energy range", *self._energies()))
        return found

    def _sources(self) -> list[Finding]:
        found = []
        if times := self.seen["contradiction"]:
            first = self.seen.first("contradiction")
            text = f"contradict in {times} of {self.frames} frames (first: {first})"
            found.append(Finding("label sources", Verdict.BAD, text))
        if self.unread:
            names = ", ".join(f"{name} ({times} frames)" for name, times in self.unread.items())
            text = f"stored but not read: {names}; {READ_FROM}"
            found.append(Finding("label names", Verdict.LOOK, text))
        return found

    def _presence(self, label: str) -> tuple[Verdict, str]:
        missing, infinite = self.seen[f"{label} missing"], self.seen[f"{label} infinite"]
        if infinite:
            names = listed(self.seen.examples[f"{label} infinite"], infinite)
            return Verdict.BAD, f"{infinite} frames with values that are not finite: {names}"
        if missing == self.frames:
            others = ", ".join(sorted(self.numbers - {"energy", "sid", "fid"}))
            also = f" (other numbers stored: {others})" if label == "energy" and others else ""
            return Verdict.LOOK, f"none{also}: fit for prediction, not for training on them"
        if missing:
            return Verdict.BAD, f"missing in {missing} of {self.frames} frames"
        return Verdict.OK, "in every frame, finite"

    def _energies(self) -> tuple[Verdict, str]:
        (low, lowest), (high, highest) = self.lowest, self.highest
        text = f"{low:.3f} to {high:.3f} eV per atom"
        if times := self.seen["impossible"]:
            text += f"; {times} are larger than the energy of all electrons (first: "
            text += f"{self.seen.first('impossible')}): kcal/mol, kJ/mol or meV in place of eV?"
            return Verdict.BAD, text
        if high > _USUAL[1]:
            text += f"; {highest} lies above {_USUAL[1]:g}: outlier, or another unit?"
            return Verdict.LOOK, text
        if low < _USUAL[0]:
            text += f"; below {_USUAL[0]:g} are only all-electron energies (lowest: {lowest})"
            return Verdict.LOOK, text
        return Verdict.OK, text
