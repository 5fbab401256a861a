"""What a check says, and the table of all that was said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

SHOWN = 3  # examples that a line names


class Verdict(StrEnum):
    OK = "ok"
    LOOK = "look"  # unusual: a person must say whether it is meant
    BAD = "bad"  # wrong for training, whatever was meant


@dataclass(frozen=True)
class Finding:
    """One line of the table: which check, its verdict, and what was seen."""

    check: str
    verdict: Verdict
    text: str


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
    verdicts = {finding.verdict for finding in findings}
    return next((v for v in (Verdict.BAD, Verdict.LOOK) if v in verdicts), Verdict.OK)


def table(findings: Sequence[Finding]) -> str:
    """One line per finding, in columns."""
    width = max(len(finding.check) for finding in findings)
    return "\n".join(f"{f.check:<{width}}  {f.verdict:<4}  {f.text}" for f in findings)
