"""Atoms that overlap or stand alone, and lengths in another unit."""

from __future__ import annotations

from array import array

import numpy as np

from eqv2_plugin.data.inspection.findings import Finding, Verdict
from eqv2_plugin.data.inspection.frames import Frame
from eqv2_plugin.data.inspection.neighbours import ISOLATED, Nearest

# Nearest-neighbour distance in units of the two covalent radii. Smallest in 20,000 OC20, OC22,
# CuM(111), rMD17 and inorganic frames: 0.32 (a crystal at the highest pressures of MPtrj); 0.46
# without those. At 0.25 two H are 0.16 Å apart, two O 0.33 Å: no calculation is meant to be there.
OVERLAP, CLOSE = 0.25, 0.45
# The median of that ratio over a data set lies in 0.75..1.01 for thirteen such sets. Bohr
# taken for Å makes it 1.4..1.9, nm 0.08..0.1; pm leaves no neighbours.
SHORTEST_MEDIAN, LONGEST_MEDIAN = 0.5, 1.3


class DistanceCheck:
    """Collects nearest neighbours over a data set."""

    def __init__(self) -> None:
        self.medians = array("d")
        self.problems: dict[str, str] = {}
        self.problem_frames = 0
        self.isolated_frames = self.isolated_atoms = 0
        self.isolated_example = ""
        self.frames = self.scattered = 0  # of more than one atom; without any neighbours
        self.overlaps = self.close = 0
        self.least = (np.inf, "")  # ratio, frame

    def add(self, frame: Frame, nearest: Nearest) -> None:
        if nearest.problem:
            self.problem_frames += 1
            self.problems.setdefault(nearest.problem, frame.name)
            return
        lonely = int(np.isinf(nearest.distance).sum())
        self.frames += len(frame.numbers) > 1
        self.scattered += lonely == len(frame.numbers) > 1
        if lonely:
            self.isolated_frames += 1
            self.isolated_atoms += lonely
            self.isolated_example = self.isolated_example or frame.name
        bonded = np.isfinite(nearest.ratio)
        if not bonded.any():
            return
        self.medians.append(float(np.median(nearest.ratio[bonded])))
        atom = int(np.argmin(np.where(bonded, nearest.ratio, np.inf)))
        self.overlaps += bool(nearest.ratio[atom] < OVERLAP)
        self.close += bool(nearest.ratio[atom] < CLOSE)
        if nearest.ratio[atom] < self.least[0]:
            self.least = (float(nearest.ratio[atom]), frame.name)

    def findings(self) -> list[Finding]:
        found = []
        if self.problems:
            listed = "; ".join(f"{what} (first: {name})" for what, name in self.problems.items())
            text = f"{self.problem_frames} frames with {listed}"
            found.append(Finding("geometry", Verdict.BAD, text))
        if self.scattered > self.frames / 2:
            text = f"{self.scattered} of {self.frames} frames have no neighbours at all: pm?"
            found.append(Finding("length unit", Verdict.BAD, text))
        elif self.medians:
            found += [self._lengths(), self._overlaps()]
        if self.isolated_frames:
            text = (
                f"{self.isolated_atoms} atoms in {self.isolated_frames} frames have no neighbour "
                f"within {ISOLATED:g} Å (first: {self.isolated_example})"
            )
            found.append(Finding("isolated atoms", Verdict.LOOK, text))
        else:
            found.append(Finding("isolated atoms", Verdict.OK, f"none beyond {ISOLATED:g} Å"))
        return found

    def _lengths(self) -> Finding:
        median = float(np.median(self.medians))
        text = f"nearest neighbours at {median:.2f} of the covalent radii (median)"
        if median > LONGEST_MEDIAN:
            return Finding("length unit", Verdict.BAD, f"{text}: Bohr in place of Å?")
        if median < SHORTEST_MEDIAN:
            return Finding("length unit", Verdict.BAD, f"{text}: nm in place of Å?")
        return Finding("length unit", Verdict.OK, text)

    def _overlaps(self) -> Finding:
        ratio, name = self.least
        text = f"closest pair {ratio:.2f} of the covalent radii"
        if not self.close:
            return Finding("overlapping atoms", Verdict.OK, text)
        count, limit = (self.overlaps, OVERLAP) if self.overlaps else (self.close, CLOSE)
        verdict = Verdict.BAD if self.overlaps else Verdict.LOOK
        text = f"{count} frames with atoms closer than {limit:.2f} of their radii; {text} in {name}"
        return Finding("overlapping atoms", verdict, text)
