"""What a user must not overlook in the results of a relaxation job: said before all numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eqv2_plugin.common.text import listed
from eqv2_plugin.inference.energy_agreement import kinds_note
from eqv2_plugin.models.metadata import EnergyKind
from eqv2_plugin.tasks.relaxation.anomalies import LEFT, TOO_NEAR
from eqv2_plugin.tasks.relaxation.rows import CHOICES, REFUSE, Row
from eqv2_plugin.tasks.relaxation.split_results import SplitResults

_ANOMALY = {
    TOO_NEAR: "atoms nearer than half the sum of their covalent radii",
    LEFT: "atoms that moved by more than the cell's diagonal",
}
Named = Sequence[tuple[str, Row]]


def energy_note(kind: EnergyKind, energy: str, data: EnergyKind) -> str:
    """A warning where a model's energies (kind, and in words) are not those of the data; else "".

    Data are taken for those of IS2RE where nobody states another kind.
    """
    if data not in (EnergyKind.UNKNOWN, EnergyKind.ADSORPTION):
        return kinds_note(kind, data, "the data")
    if kind == EnergyKind.ADSORPTION:
        return ""
    return (
        "IS2RE asks for adsorption energies (relative to the clean slab and gas-phase "
        f"references), but {energy}. The is2re files, energy MAE and EwT then mean nothing; "
        "is2rs files and ADwT do not depend on it."
    )


def result_notes(
    splits: Mapping[str, SplitResults], settings: Mapping[str, Any], choice: str
) -> list[str]:
    """One sentence each, the gravest first; ``choice`` is a key of `CHOICES`."""
    rows = [(f"{split}/{row.sid}", row) for split, found in splits.items() for row in found.rows]
    failed = [(name, row) for name, row in rows if row.error]
    found = [*_converged(splits, rows, failed, settings), *_failed(rows, failed, choice)]
    for kind, what in _ANOMALY.items():
        odd = [(name, row.anomalies[kind]) for name, row in rows if kind in row.anomalies]
        if odd:
            names = listed([name for name, _ in odd])
            found.append(
                f"{len(odd):,} relaxed structure(s) have {what}: {names}. The first: {odd[0][1]}"
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
        f"{listed([name for name, _ in failed])}. The first, {first}: {row.error}"
    )
    filled = [name for name, row in failed if row.submitted]
    if not filled:
        return [text]
    return [
        text,
        f"{len(filled):,} of them are in the files and scores all the same, as failed={choice} "
        f"asks: {CHOICES[choice]} ({listed(filled)})",
    ]


def refusal(splits: Mapping[str, SplitResults], choice: str) -> str:
    """Why no submission of these splits is written; empty where no structure is missing."""
    missing = [(f"{split}/{row.sid}", row) for split, s in splits.items() for row in s.missing]
    if not missing:
        return ""
    text = (
        f"No submission file: {len(missing):,} failed structure(s) would be missing in it: "
        f"{listed([name for name, _ in missing])}."
    )
    if not any(row.energy_eV is not None for _, row in missing):
        return f"{text} The model predicted nothing of them: fix the structures, or the model"
    if choice == REFUSE:
        return f"{text} failed=last_finite or failed=initial puts something in their place"
    return f"{text} Of some of them the model predicted nothing that could stand in their place"
