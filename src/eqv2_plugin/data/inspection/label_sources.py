"""Where labels stand: contradictions, and what looks like a label and is not read."""

from __future__ import annotations

from collections import Counter

from eqv2_plugin.data.inspection.findings import Finding, Verdict
from eqv2_plugin.data.inspection.frames import Frame
from eqv2_plugin.data.labels import READ_FROM


class LabelSourceCheck:
    """Labels that stand in two places with different numbers, or in a place that is not read."""

    def __init__(self) -> None:
        self.frames = self.contradicting = 0
        self.first = ""
        self.unread: Counter[str] = Counter()

    def add(self, frame: Frame) -> None:
        self.frames += 1
        self.unread.update(frame.unread)
        if frame.conflicts:
            self.contradicting += 1
            self.first = self.first or f"{frame.name}: {frame.conflicts[0]}"

    def findings(self) -> list[Finding]:
        found = []
        if self.contradicting:
            text = (
                f"contradict in {self.contradicting} of {self.frames} frames (first: {self.first})"
            )
            found.append(Finding("label sources", Verdict.BAD, text))
        if self.unread:
            names = ", ".join(f"{name} ({times} frames)" for name, times in self.unread.items())
            text = f"stored but not read: {names}; {READ_FROM}"
            found.append(Finding("label names", Verdict.LOOK, text))
        return found
