"""Fixed atoms and tags."""

from __future__ import annotations

import numpy as np

from eqv2_plugin.data.fixed_atoms import PARTLY_FIXED
from eqv2_plugin.data.inspection.findings import Finding, Verdict
from eqv2_plugin.data.inspection.frames import Frame

# Å. Stored positions of fixed atoms agree to float32 rounding (1e-6) in real relaxations.
MOVED = 1e-2


class ConstraintCheck:
    """Who is fixed, whether fixed atoms keep their places, and whether there are tags.

    Frames are compared with the frame before them, if it is of the same system.
    """

    def __init__(self) -> None:
        self.frames = self.none_fixed = self.all_fixed = self.untagged = self.periodic = 0
        self.partly = 0
        self.first_all_fixed = ""
        self.compared = self.moved = 0
        self.first_moved = ""
        self.before: Frame | None = None

    def add(self, frame: Frame) -> None:
        self.frames += 1
        self.none_fixed += not frame.fixed.any()
        self.partly += frame.partly_fixed
        if frame.fixed.all():
            self.all_fixed += 1
            self.first_all_fixed = self.first_all_fixed or frame.name
        self.untagged += not frame.tags.any()
        self.periodic += bool(frame.pbc.any())
        before, self.before = self.before, frame
        if before is None or not frame.follows(before):
            return
        kept = before.fixed & frame.fixed
        if kept.any():
            self.compared += 1
            step = frame.displacement(before)[kept]
            if np.isfinite(step).all() and np.linalg.norm(step, axis=1).max() > MOVED:
                self.moved += 1
                self.first_moved = self.first_moved or frame.name

    def findings(self) -> list[Finding]:
        found = [self._fixed()]
        if self.partly:
            found.append(Finding("partly fixed", Verdict.OK, f"{self.partly} {PARTLY_FIXED}"))
        if self.moved:
            text = (
                f"moved by more than {MOVED:g} Å in {self.moved} of {self.compared} pairs of "
                f"consecutive frames (first: {self.first_moved})"
            )
            found.append(Finding("fixed atoms stay", Verdict.BAD, text))
        elif self.compared:
            text = f"in {self.compared} pairs of consecutive frames of one system"
            found.append(Finding("fixed atoms stay", Verdict.OK, text))
        found.append(self._tags())
        return found

    def _fixed(self) -> Finding:
        if self.all_fixed:
            text = (
                f"{self.all_fixed} frames have no free atom (first: {self.first_all_fixed}), and "
                "forces are trained on free atoms only"
            )
            return Finding("fixed atoms", Verdict.BAD, text)
        if 0 < self.none_fixed < self.frames:
            text = f"none in {self.none_fixed} of {self.frames} frames, some in the others"
            return Finding("fixed atoms", Verdict.LOOK, text)
        return Finding("fixed atoms", Verdict.OK, "none" if self.none_fixed else "in every frame")

    def _tags(self) -> Finding:
        if self.untagged == 0:
            return Finding("tags", Verdict.OK, "in every frame")
        if self.periodic == 0:
            return Finding("tags", Verdict.OK, "none, as usual for molecules")
        text = (
            f"all 0 in {self.untagged} of {self.frames} frames: fairchem makes them 1, so nothing "
            "tells adsorbate (2), free (1) and fixed slab (0) apart"
        )
        return Finding("tags", Verdict.LOOK, text)
