"""What a check says, and the table of all that was said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

SHOWN = 3  # examples that a line names


class Verdict(StrEnum):
    """In the order of gravity; `eqv2 doctor` calls models good, the others call data ok."""

    INFO = "info"  # a measurement that has no right or wrong
    OK = "ok"
    GOOD = "good"
    NOT_RUN = "not run"
    LOOK = "look"  # unusual: a person must say whether it is meant, or matters
    BAD = "bad"  # wrong, whatever was meant


@dataclass(frozen=True)
class Finding:
    """One line of the table: which check, its verdict, and what was seen.

    ``numbers`` are for machines; the unit is the end of each name.
    """

    check: str
    verdict: Verdict
    text: str
    numbers: Mapping[str, float] = field(default_factory=dict)


class Tally:
    """How often something was seen, and where first."""

    def __init__(self) -> None:
        self.times: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, what: str, name: str) -> None:
        self.times[what] += 1
        examples = self.examples.setdefault(what, [])
        if len(examples) < SHOWN:
            examples.append(name)

    def __getitem__(self, what: str) -> int:
        return self.times[what]

    def first(self, what: str) -> str:
        return self.examples[what][0]


def listed(names: Sequence[str], total: int) -> str:
    """The first `SHOWN` names of ``total``, and how many more there are."""
    rest = f" and {total - SHOWN} more" if total > SHOWN else ""
    return "; ".join(names[:SHOWN]) + rest


def worst(findings: Sequence[Finding]) -> Verdict:
    """The gravest verdict."""
    return gravest(finding.verdict for finding in findings)


def gravest(verdicts: Iterable[Verdict]) -> Verdict:
    """OK if there are none."""
    return max(verdicts, key=list(Verdict).index, default=Verdict.OK)


def table(findings: Sequence[Finding]) -> str:
    """One line per finding, in columns."""
    width = max(len(finding.check) for finding in findings)
    verdicts = max(4, *(len(finding.verdict) for finding in findings))
    return "\n".join(f"{f.check:<{width}}  {f.verdict:<{verdicts}}  {f.text}" for f in findings)
