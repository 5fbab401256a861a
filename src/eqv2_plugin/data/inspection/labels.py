"""How much there is, and whether the labels are there, finite and possible."""

from __future__ import annotations

from array import array

import numpy as np
from ase.data import chemical_symbols

from eqv2_plugin.data.inspection.findings import SHOWN, Finding, Verdict, listed
from eqv2_plugin.data.inspection.frames import Frame

# eV. Total energy of all electrons of a Thomas-Fermi atom is -_THOMAS_FERMI * Z^(7/3), more than
# any method gives and far more than with pseudopotentials or references. Energies in meV,
# kJ/mol or kcal/mol taken for eV are 1000, 96 or 23 times too large; all-electron ones then
# exceed it.
_THOMAS_FERMI = 20.92
# eV per atom. Energies of pseudopotential codes and referenced energies lie in -13..+12 in 16,000
# OC20, OC22, CuM(111) and inorganic frames (+12: shattered crystals at high temperature);
# all-electron energies lie below -400 (rMD17). In between there is nothing usual.
_USUAL = (-50.0, 20.0)


class CountCheck:
    """Numbers of frames, systems, atoms and elements."""

    def __init__(self) -> None:
        self.natoms = array("l")
        self.elements = np.zeros(len(chemical_symbols) + 1, np.int64)
        self.unknown = ""

    def add(self, frame: Frame) -> None:
        self.natoms.append(len(frame.numbers))
        inside = (frame.numbers > 0) & (frame.numbers < len(chemical_symbols))
        if not inside.all() and not self.unknown:
            self.unknown = f"atomic number {frame.numbers[~inside][0]} in {frame.name}"
        numbers = np.where(inside, frame.numbers, len(chemical_symbols))
        self.elements += np.bincount(numbers, minlength=len(self.elements))

    def findings(self, total: int, natoms: np.ndarray | None, indices: np.ndarray) -> list[Finding]:
        """Findings, with ``natoms`` of metadata.npz for the whole data set of ``total`` frames."""
        seen = np.asarray(self.natoms)
        looked = f"{len(seen):,} frames"
        if len(seen) < total:
            looked += f" looked at, of {total:,}"
        text = f"{looked}; {seen.min()} to {seen.max()} atoms, mean {seen.mean():.1f}"
        found = [Finding("frames", Verdict.OK, text), self._metadata(total, natoms, indices)]
        present = np.flatnonzero(self.elements[:-1])
        listed = f"{len(present)}: {' '.join(chemical_symbols[z] for z in present)}"
        if self.unknown:
            found.append(Finding("elements", Verdict.BAD, f"{listed}; {self.unknown}"))
        else:
            found.append(Finding("elements", Verdict.OK, listed))
        return found

    def _metadata(self, total: int, natoms: np.ndarray | None, indices: np.ndarray) -> Finding:
        if natoms is None:
            text = "none: fairchem's samplers that balance atoms will read every frame"
            return Finding("metadata.npz", Verdict.LOOK, text)
        if len(natoms) != total:
            text = f"natoms of {len(natoms)} frames, but there are {total}: make it again"
            return Finding("metadata.npz", Verdict.BAD, text)
        wrong = np.flatnonzero(natoms[indices] != np.asarray(self.natoms))
        if len(wrong):
            text = f"natoms is wrong for {len(wrong)} frames (first: {indices[wrong[0]]})"
            return Finding("metadata.npz", Verdict.BAD, text)
        return Finding("metadata.npz", Verdict.OK, "natoms agrees with the frames")


class LabelCheck:
    """Energies and forces: there, finite, possible."""

    def __init__(self) -> None:
        self.frames = 0
        self.missing = {"energy": 0, "force": 0}
        self.infinite = {"energy": 0, "force": 0}
        self.examples: dict[str, list[str]] = {"energy": [], "force": []}
        self.numbers: set[str] = set()
        self.energies = array("d")  # per atom, finite ones
        self.impossible = 0
        self.first_impossible = ""
        self.range = [(np.inf, ""), (-np.inf, "")]

    def add(self, frame: Frame) -> None:
        self.frames += 1
        self.numbers.update(frame.scalars)
        for label, value in (("energy", frame.energy), ("force", frame.forces)):
            if value is None:
                self.missing[label] += 1
            elif not np.isfinite(value).all():
                self.infinite[label] += 1
                if len(self.examples[label]) < SHOWN:
                    self.examples[label].append(frame.name)
        energy = frame.energy
        if energy is None or not np.isfinite(energy) or len(frame.numbers) == 0:
            return
        per_atom = energy / len(frame.numbers)
        self.energies.append(per_atom)
        if per_atom < self.range[0][0]:
            self.range[0] = (per_atom, frame.name)
        if per_atom > self.range[1][0]:
            self.range[1] = (per_atom, frame.name)
        if abs(energy) > _THOMAS_FERMI * (np.maximum(frame.numbers, 0) ** (7 / 3)).sum():
            self.impossible += 1
            self.first_impossible = self.first_impossible or frame.name

    def findings(self) -> list[Finding]:
        found = [self._presence(label) for label in ("energy", "force")]
        if self.energies:
            found.append(self._energies())
        return found

    def _presence(self, label: str) -> Finding:
        missing, infinite = self.missing[label], self.infinite[label]
        check = f"{label} labels"
        if infinite:
            names = listed(self.examples[label], infinite)
            text = f"{infinite} frames with values that are not finite: {names}"
            return Finding(check, Verdict.BAD, text)
        if missing == self.frames:
            others = ", ".join(sorted(self.numbers - {"energy", "sid", "fid"}))
            also = f" (other numbers stored: {others})" if label == "energy" and others else ""
            text = f"none{also}: fit for prediction, not for training on them"
            return Finding(check, Verdict.LOOK, text)
        if missing:
            return Finding(check, Verdict.BAD, f"missing in {missing} of {self.frames} frames")
        return Finding(check, Verdict.OK, "in every frame, finite")

    def _energies(self) -> Finding:
        (low, lowest), (high, highest) = self.range
        text = f"{low:.3f} to {high:.3f} eV per atom"
        if self.impossible:
            text += (
                f"; {self.impossible} are larger than the energy of all electrons (first: "
                f"{self.first_impossible}): kcal/mol, kJ/mol or meV in place of eV?"
            )
            return Finding("energy range", Verdict.BAD, text)
        if high > _USUAL[1]:
            text += f"; {highest} lies above {_USUAL[1]:g}: outlier, or another unit?"
            return Finding("energy range", Verdict.LOOK, text)
        if low < _USUAL[0]:
            text += f"; below {_USUAL[0]:g} are only all-electron energies (lowest: {lowest})"
            return Finding("energy range", Verdict.LOOK, text)
        return Finding("energy range", Verdict.OK, text)
