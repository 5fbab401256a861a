"""Atoms that overlap or stand alone, and lengths in another unit."""

from __future__ import annotations

from array import array

import numpy as np

from eqv2_plugin.common.findings import Finding, Tally, Verdict
from eqv2_plugin.data.inspection.frames import Frame
from eqv2_plugin.data.inspection.neighbours import ISOLATED

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
        self.problems, self.seen = Tally(), Tally()
        self.frames = self.isolated_atoms = 0  # frames of more than one atom
        self.closest = (np.inf, "")  # ratio, frame

    def add(self, frame: Frame) -> None:
        nearest, size = frame.nearest, len(frame.numbers)
        if nearest.problem:
            self.problems.add(nearest.problem, frame.name)
            return
        isolated = int(np.isinf(nearest.distance).sum())
        self.frames += size > 1
        if isolated == size > 1:
            self.seen.add("scattered", frame.name)
        if isolated:
            self.isolated_atoms += isolated
            self.seen.add("isolated", frame.name)
        bonded = np.isfinite(nearest.ratio)
        if not bonded.any():
            return
        self.medians.append(float(np.median(nearest.ratio[bonded])))
        ratio = float(nearest.ratio[bonded].min())
        for kind, limit in (("overlap", OVERLAP), ("close", CLOSE)):
            if ratio < limit:
                self.seen.add(kind, frame.name)
        if ratio < self.closest[0]:
            self.closest = (ratio, frame.name)

    def findings(self) -> list[Finding]:
        found = []
        if total := self.problems.times.total():
            kinds = "; ".join(f"{what} (first: {self.problems.first(what)})"
                              for what in self.problems.times)  # fmt: skip
            found.append(Finding("geometry", Verdict.BAD, f"{total} frames with {kinds}"))
        scattered = self.seen["scattered"]
        if scattered > self.frames / 2:
            text = f"{scattered} of {self.frames} frames have no neighbours at all: pm?"
            found.append(Finding("length unit", Verdict.BAD, text))
        elif self.medians:
            found.append(Finding("length unit", *self._lengths()))
            found.append(Finding("overlapping atoms", *self._overlaps()))
        if times := self.seen["isolated"]:
            text = (
                f"{self.isolated_atoms} atoms in {times} frames have no neighbour "
                f"within {ISOLATED:g} Å (first: {self.seen.first('isolated')})"
            )
            return [*found, Finding("isolated atoms", Verdict.LOOK, text)]
        return [*found, Finding("isolated atoms", Verdict.OK, f"none beyond {ISOLATED:g} Å")]

    def _lengths(self) -> tuple[Verdict, str]:
        median = float(np.median(self.medians))
        text = f"nearest neighbours at {median:.2f} of the covalent radii (median)"
        if median > LONGEST_MEDIAN:
            return Verdict.BAD, f"{text}: Bohr in place of Å?"
        if median < SHORTEST_MEDIAN:
            return Verdict.BAD, f"{text}: nm in place of Å?"
        return Verdict.OK, text

    def _overlaps(self) -> tuple[Verdict, str]:
        ratio, name = self.closest
        text = f"closest pair {ratio:.2f} of the covalent radii"
        overlaps, close = self.seen["overlap"], self.seen["close"]
        if not close:
            return Verdict.OK, text
        count, limit = (overlaps, OVERLAP) if overlaps else (close, CLOSE)
        text = f"{count} frames with atoms closer than {limit:.2f} of their radii; {text} in {name}"
        return Verdict.BAD if overlaps else Verdict.LOOK, text
