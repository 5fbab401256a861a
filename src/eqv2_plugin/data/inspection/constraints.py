"""Fixed atoms and tags."""

from __future__ import annotations

import numpy as np

from eqv2_plugin.common.findings import Finding, Tally, Verdict
from eqv2_plugin.data.fixed_atoms import PARTLY_FIXED
from eqv2_plugin.data.inspection.frames import Frame

# Å. Stored positions of fixed atoms agree to float32 rounding (1e-6) in real relaxations.
MOVED = 1e-2


class ConstraintCheck:
    """Who is fixed, whether fixed atoms keep their places (against the frame before), and tags."""

    def __init__(self) -> None:
        self.frames = self.periodic = self.partly = self.compared = 0
        self.seen = Tally()
        self.before: Frame | None = None

    def add(self, frame: Frame) -> None:
        self.frames += 1
        self.periodic += bool(frame.pbc.any())
        self.partly += frame.partly_fixed
        if not frame.fixed.any():
            self.seen.add("none fixed", frame.name)
        if frame.fixed.all():
            self.seen.add("all fixed", frame.name)
        if not frame.tags.any():
            self.seen.add("untagged", frame.name)
        before, self.before = frame.after(self.before), frame
        if before is None:
            return
        kept = before.fixed & frame.fixed
        if kept.any():
            self.compared += 1
            step = frame.displacement(before)[kept]
            if np.isfinite(step).all() and np.linalg.norm(step, axis=1).max() > MOVED:
                self.seen.add("moved", frame.name)

    def findings(self) -> list[Finding]:
        found = [Finding("fixed atoms", *self._fixed())]
        if self.partly:
            found.append(Finding("partly fixed", Verdict.OK, f"{self.partly} {PARTLY_FIXED}"))
        if moved := self.seen["moved"]:
            text = (
                f"moved by more than {MOVED:g} Å in {moved} of {self.compared} pairs of "
                f"consecutive frames (first: {self.seen.first('moved')})"
            )
            found.append(Finding("fixed atoms stay", Verdict.BAD, text))
        elif self.compared:
            text = f"in {self.compared} pairs of consecutive frames of one system"
            found.append(Finding("fixed atoms stay", Verdict.OK, text))
        return [*found, Finding("tags", *self._tags())]

    def _fixed(self) -> tuple[Verdict, str]:
        if times := self.seen["all fixed"]:
            text = f"{times} frames have no free atom (first: {self.seen.first('all fixed')})"
            return Verdict.BAD, f"{text}, and forces are trained on free atoms only"
        none = self.seen["none fixed"]
        if 0 < none < self.frames:
            return Verdict.LOOK, f"none in {none} of {self.frames} frames, some in the others"
        return Verdict.OK, "none" if none else "in every frame"

    def _tags(self) -> tuple[Verdict, str]:
        untagged = self.seen["untagged"]
        if not untagged:
            return Verdict.OK, "in every frame"
        if self.periodic == 0:
            return Verdict.OK, "none, as usual for molecules"
        text = f"all 0 in {untagged} of {self.frames} frames: fairchem makes them 1, so nothing "
        return Verdict.LOOK, text + "tells adsorbate (2), free (1) and fixed slab (0) apart"
