"""One line per check, and what is made of all lines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from eqv2_plugin.doctor.thresholds import Limits


class Verdict(StrEnum):
    GOOD = "good"
    LOOK = "look"  # may matter for what the model is used for
    BAD = "bad"
    INFO = "info"  # a measurement that has no right or wrong
    NOT_RUN = "not run"


_GRAVITY = (Verdict.INFO, Verdict.GOOD, Verdict.NOT_RUN, Verdict.LOOK, Verdict.BAD)


class CannotRunError(Exception):
    """A check has nothing to work on, or too little time; the message says which."""


@dataclass(frozen=True)
class Line:
    """What one check found.

    Attributes:
        check: its name.
        verdict: the outcome.
        text: for people.
        numbers: for machines; the unit is the end of each name.
    """

    check: str
    verdict: Verdict
    text: str
    numbers: dict[str, float] = field(default_factory=dict)


def judge(value: float, limits: Limits) -> Verdict:
    """Good up to the one limit, bad beyond the other; what is not a number is bad."""
    if value <= limits.good:
        return Verdict.GOOD
    return Verdict.LOOK if value <= limits.bad else Verdict.BAD


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The gravest one; a check that was not run outweighs a good one."""
    return max(verdicts, key=_GRAVITY.index)


def table(lines: Sequence[Line]) -> str:
    """One line per check, in columns."""
    width = max(len(line.check) for line in lines)
    return "\n".join(f"{li.check:<{width}}  {li.verdict:<7}  {li.text}" for li in lines)


def as_json(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The lines as JSON values; a number that is not finite becomes text."""
    return [
        {
            "check": line.check,
            "verdict": str(line.verdict),
            "text": line.text,
            "numbers": {
                name: value if math.isfinite(value) else str(value)
                for name, value in line.numbers.items()
            },
        }
        for line in lines
    ]
