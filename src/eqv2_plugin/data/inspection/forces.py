"""Sizes of the forces and the frames with the largest ones."""

from __future__ import annotations

from array import array
from operator import itemgetter

import numpy as np

from eqv2_plugin.common.findings import Finding, Verdict
from eqv2_plugin.data.inspection.frames import Frame

# eV/Å. OC20's own filter drops frames with a larger force; 7 of 6,280 unfiltered ones have it.
LARGE = 50.0
# eV/Å. Largest in 20,000 real frames (unfiltered first steps of OC20 relaxations included): 321.
IMPOSSIBLE = 1000.0
# Robust standard deviations of log10(largest force of a frame). Furthest in those data: 7.5.
_FAR = 8.0
_MIN_SPREAD = 0.05  # decades; narrower sets would make outliers of nothing
# eV/Å: near-relaxed sets (Alexandria) have a spread of decades and forces that nobody misses.
_UNIMPORTANT = 1.0
# eV/Å, median over atoms. 2.5 at 1000s of K and GPa, 1.7 in rMD17; kcal/mol/Å makes 20-58 of it.
HOT = 10.0
_WORST = 3
# Decades of |F| that the histogram covers, and its bins.
BINS = np.logspace(-5, 4, 181)


class ForceCheck:
    """Distribution of |F| over free atoms, and outliers."""

    def __init__(self) -> None:
        self.histogram = np.zeros(len(BINS) + 1, np.int64)  # with both overflows
        self.largest = array("d")  # of every frame
        self.worst: list[tuple[float, str]] = []  # the largest first
        self.zero_frames = 0

    def add(self, frame: Frame) -> None:
        free = frame.free_forces
        if free is None or len(free) == 0 or not np.isfinite(free).all():
            return
        norms = np.linalg.norm(free, axis=1)
        self.histogram += np.bincount(np.searchsorted(BINS, norms), minlength=len(BINS) + 1)
        most = float(norms.max())
        self.zero_frames += most == 0
        self.largest.append(most)
        worst = [*self.worst, (most, frame.name)]
        self.worst = sorted(worst, key=itemgetter(0), reverse=True)[:_WORST]

    def findings(self) -> list[Finding]:
        if not self.largest:
            return []
        largest = np.asarray(self.largest)
        median = self._median()
        text = f"median |F| {median:.3g} eV/Å, largest {largest.max():.3g} on free atoms"
        if self.zero_frames > len(largest) / 2:
            text = f"all forces are zero in {self.zero_frames} of {len(largest)} frames"
            return [Finding("forces", Verdict.BAD, text)]
        if median > HOT:
            text += f": more than {HOT:g} is unheard of; kcal/mol/Å or kJ/mol/Å?"
            return [Finding("forces", Verdict.BAD, text), self._outliers(largest)]
        return [Finding("forces", Verdict.OK, text), self._outliers(largest)]

    def _median(self) -> float:
        """Median over atoms, to the width of a bin."""
        reached = np.cumsum(self.histogram) >= self.histogram.sum() / 2
        return float(BINS[min(int(np.argmax(reached)), len(BINS) - 1)])

    def _outliers(self, largest: np.ndarray) -> Finding:
        logs = np.log10(np.maximum(largest, BINS[0]))
        centre = np.median(logs)
        spread = max(1.4826 * float(np.median(np.abs(logs - centre))), _MIN_SPREAD)
        far = 10 ** (centre + _FAR * spread)
        limit = min(LARGE, max(far, _UNIMPORTANT))
        count = int((largest > limit).sum())
        if not count:
            return Finding("force outliers", Verdict.OK, f"none beyond {limit:.3g} eV/Å")
        listed = "; ".join(f"{name}: {size:.3g}" for size, name in self.worst if size > limit)
        text = f"{count} frames with a force beyond {limit:.3g} eV/Å ({listed})"
        impossible = largest.max() > IMPOSSIBLE
        return Finding("force outliers", Verdict.BAD if impossible else Verdict.LOOK, text)
