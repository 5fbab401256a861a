"""How much there is: numbers of frames, atoms and elements."""

from __future__ import annotations

from array import array

import numpy as np
from ase.data import chemical_symbols

from eqv2_plugin.common.findings import Finding, Verdict
from eqv2_plugin.data.inspection.frames import Frame


class CountCheck:
    """Numbers of frames, atoms and elements, against metadata.npz.

    Of ``total`` frames those at ``indices`` are added; ``natoms`` is metadata.npz's, or None.
    """

    def __init__(self, total: int, natoms: np.ndarray | None, indices: np.ndarray) -> None:
        self.total, self.stored, self.indices = total, natoms, indices
        self.natoms = array("l")
        self.elements = np.zeros(len(chemical_symbols) + 1, np.int64)
        self.unknown = ""

    def add(self, frame: Frame) -> None:
        self.natoms.append(len(frame.numbers))
        inside = (frame.numbers > 0) & (frame.numbers < len(chemical_symbols))
        if not inside.all() and not self.unknown:
            self.unknown = f"; atomic number {frame.numbers[~inside][0]} in {frame.name}"
        numbers = np.where(inside, frame.numbers, len(chemical_symbols))
        self.elements += np.bincount(numbers, minlength=len(self.elements))

    def findings(self) -> list[Finding]:
        seen = np.asarray(self.natoms)
        looked = f"{len(seen):,} frames"
        if len(seen) < self.total:
            looked += f" looked at, of {self.total:,}"
        text = f"{looked}; {seen.min()} to {seen.max()} atoms, mean {seen.mean():.1f}"
        present = np.flatnonzero(self.elements[:-1])
        elements = f"{len(present)}: {' '.join(chemical_symbols[z] for z in present)}"
        verdict = Verdict.BAD if self.unknown else Verdict.OK
        return [
            Finding("frames", Verdict.OK, text),
            Finding("metadata.npz", *self._metadata(seen)),
            Finding("elements", verdict, f"{elements}{self.unknown}"),
        ]

    def _metadata(self, seen: np.ndarray) -> tuple[Verdict, str]:
        if self.stored is None:
            return (
                Verdict.LOOK,
                "none: fairchem's samplers that balance atoms will read every frame",
            )
        if len(self.stored) != self.total:
            text = f"natoms of {len(self.stored)} frames, but there are {self.total}"
            return Verdict.BAD, f"{text}: make it again"
        wrong = np.flatnonzero(self.stored[self.indices] != seen)
        if len(wrong):
            first = self.indices[wrong[0]]
            return Verdict.BAD, f"natoms is wrong for {len(wrong)} frames (first: {first})"
        return Verdict.OK, "natoms agrees with the frames"
