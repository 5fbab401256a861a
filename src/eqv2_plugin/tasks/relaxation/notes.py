"""What a user must not overlook in the results of a relaxation job: said before all numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eqv2_plugin.tasks.relaxation.failed import CHOICES, REFUSE
from eqv2_plugin.tasks.relaxation.results import SplitResults
from eqv2_plugin.tasks.relaxation.table import Row

_SHOWN = 5
_ANOMALY = {
    "atoms_too_near": "atoms nearer than half the sum of their covalent radii",
    "atoms_left": "atoms that moved by more than the cell's diagonal",
}
Named = Sequence[tuple[str, Row]]


def result_notes(
    splits: Mapping[str, SplitResults],
    settings: Mapping[str, Any],
    choice: str,
) -> list[str]:
    """One sentence each, the gravest first.

    Args:
        splits: results.
        settings: of the relaxations.
        choice: see `failed.CHOICES`.
    """
    rows = [(f"{split}/{row.sid}", row) for split, found in splits.items() for row in found.rows]
    failed = [(name, row) for name, row in rows if row.error]
    found = [*_converged(splits, rows, failed, settings), *_failed(rows, failed, choice)]
    for kind, what in _ANOMALY.items():
        odd = [(name, row.anomalies[kind]) for name, row in rows if kind in row.anomalies]
        if odd:
            listed = _listed([name for name, _ in odd])
            found.append(
                f"{len(odd):,} relaxed structure(s) have {what}: {listed}. The first: {odd[0][1]}"
            )
    return found


def nothing_relaxed(splits: Mapping[str, SplitResults]) -> str:
    """Why there are no results at all; empty if there are some."""
    rows = [(split, row) for split, found in splits.items() for row in found.rows]
    if not all(row.error for _, row in rows):
        return ""
    split, first = rows[0]
    return f"every relaxation failed; {split}/{first.sid}: {first.error}"


def _converged(
    splits: Mapping[str, SplitResults], rows: Named, failed: Named, settings: Mapping[str, Any]
) -> list[str]:
    if len(failed) == len(rows):
        return [f"NOTHING WAS RELAXED: all {len(rows):,} structures failed."]
    none = [split for split, found in splits.items() if not found.metrics["converged"]]
    if not none:
        return []
    where = "" if len(none) == len(splits) else f" in {', '.join(none)}"
    return [
        f"NOTHING CONVERGED{where}: no relaxation reached forces below {settings['fmax']:g} eV/Å "
        f"within {settings['steps']:,} steps. Energies and positions are those of the last step, "
        "of no minimum."
    ]


def _failed(rows: Named, failed: Named, choice: str) -> list[str]:
    if not failed:
        return []
    first, row = failed[0]
    text = (
        f"{len(failed):,} of {len(rows):,} structures failed: "
        f"{_listed([name for name, _ in failed])}. The first, {first}: {row.error}"
    )
    filled = [name for name, row in failed if row.submitted]
    if not filled:
        return [text]
    return [
        text,
        f"{len(filled):,} of them are in the files and scores all the same, as failed={choice} "
        f"asks: {CHOICES[choice]} ({_listed(filled)})",
    ]


def refusal(splits: Mapping[str, SplitResults], choice: str) -> str:
    """Why no submission is written; empty where no structure is missing.

    Args:
        splits: of the submission.
        choice: see `failed.CHOICES`.
    """
    missing = [(f"{split}/{row.sid}", row) for split, s in splits.items() for row in s.missing]
    if not missing:
        return ""
    text = (
        f"No submission file: {len(missing):,} failed structure(s) would be missing in it: "
        f"{_listed([name for name, _ in missing])}."
    )
    if not any(row.energy_eV is not None for _, row in missing):
        return f"{text} The model predicted nothing of them: mend the structures, or the model"
    if choice == REFUSE:
        return f"{text} failed=last_finite or failed=initial puts something in their place"
    return f"{text} Of some of them the model predicted nothing that could stand in their place"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
