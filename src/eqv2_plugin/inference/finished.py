"""What all processes of a job have relaxed so far, from all their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eqv2_plugin.inference.store import PATTERN, check_description, read_records

_SHOWN = 5


@dataclass(frozen=True)
class Finished:
    """Finished relaxations.

    Attributes:
        records: {id: record}.
        twice: ids that were relaxed more than once, as happens where jobs with different numbers
            of processes ran at the same time. The first record counts, in the order of the
            files' names.
    """

    records: dict[str, dict[str, Any]]
    twice: Sequence[str]

    def note(self) -> str:
        """What to tell the user of ids that were relaxed twice; empty if there are none."""
        if not self.twice:
            return ""
        more = f" and {len(self.twice) - _SHOWN:,} more" if len(self.twice) > _SHOWN else ""
        return (
            f"{len(self.twice):,} structure(s) were relaxed twice, by jobs with different numbers "
            "of processes that ran at the same time; the first record counts: "
            f"{', '.join(self.twice[:_SHOWN])}{more}"
        )


def read_finished(
    folder: Path,
    description: Mapping[str, Any] | None = None,
    wanted: Callable[[str], bool] = lambda _: True,
) -> Finished:
    """The records of all processes.

    Args:
        folder: with their files.
        description: what they must have been made with; None for anything.
        wanted: whether the record of an id is kept; all are large.

    Raises:
        ValueError: relaxations were made with something else, or a file is damaged.
    """
    records: dict[str, dict[str, Any]] = {}
    twice: dict[str, None] = {}
    for record in _records(folder, description):
        identity = record["id"]
        if wanted(identity) and records.setdefault(identity, record) is not record:
            twice[identity] = None
    return Finished(records, list(twice))


def finished_ids(folder: Path, description: Mapping[str, Any]) -> set[str]:
    """Ids of all relaxations that are finished, whichever process made them.

    Raises:
        ValueError: see `read_finished`.
    """
    return {record["id"] for record in _records(folder, description)}


def _records(folder: Path, description: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob(PATTERN)):
        if description is not None:
            check_description(path, description)
        yield from read_records(path)
