"""The finished relaxations of a split: EvalAI files, a table and scores."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eqv2_plugin.evaluation.relaxation.inputs import Starts, Target
from eqv2_plugin.evaluation.relaxation.metrics import (
    free_atoms,
    is2re_metrics,
    is2rs_metrics,
    mean_distance,
)
from eqv2_plugin.evaluation.relaxation.relaxed import Relaxed
from eqv2_plugin.evaluation.relaxation.store import PATTERN, as_relaxed, read_records
from eqv2_plugin.evaluation.submission.layout import write_is2re, write_is2rs
from eqv2_plugin.files import save_text

IS2RE, IS2RS, TABLES = "is2re", "is2rs", "tables"
_SHOWN = 5


@dataclass(frozen=True)
class Row:
    """A relaxation in the table; what is unknown is None.

    Attributes:
        sid: of the structure.
        atoms: how many.
        steps: of the optimizer.
        converged: see `Relaxed`.
        energy_eV: of the relaxed structure.
        energy_change_eV: relaxed minus initial.
        fmax_eV_per_A: largest force at the end.
        largest_move_A: of an atom that may move.
        dft_energy_eV: of DFT's relaxed structure.
        mean_distance_A: of free atoms to DFT's.
        error: why it failed.
    """

    sid: str
    atoms: int
    steps: int
    converged: bool
    energy_eV: float | None  # noqa: N815
    energy_change_eV: float | None  # noqa: N815
    fmax_eV_per_A: float | None  # noqa: N815
    largest_move_A: float  # noqa: N815
    dft_energy_eV: float | None  # noqa: N815
    mean_distance_A: float | None  # noqa: N815
    error: str


@dataclass(frozen=True)
class SplitResults:
    """All relaxations of one split.

    Attributes:
        relaxed: in the order of the data.
        targets: DFT's results, in the same order.
        rows: of the table.
        metrics: see `is2re_metrics` and `is2rs_metrics`.
    """

    relaxed: Sequence[Relaxed]
    targets: Sequence[Target]
    rows: Sequence[Row]
    metrics: dict[str, Any]

    @property
    def failed(self) -> list[Row]:
        """Those without a result."""
        return [row for row in self.rows if row.error]


def read_finished(results: Path) -> dict[str, dict[str, Any]]:
    """The records of all processes by id.

    Raises:
        ValueError: an id was relaxed twice, or a file is damaged.
    """
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(results.glob(PATTERN)):
        for record in read_records(path):
            if record["id"] in found:
                raise ValueError(
                    f"{record['id']} was relaxed twice: jobs with different numbers of processes "
                    f"ran at the same time. Delete one of the relaxed.*.jsonl in {results}"
                )
            found[record["id"]] = record
    return found


def split_results(
    split: str, starts: Starts, finished: Mapping[str, Mapping[str, Any]]
) -> SplitResults:
    """Collect a split.

    Args:
        split: its name.
        starts: its structures.
        finished: see `read_finished`.

    Raises:
        ValueError: relaxations are missing, or do not fit the data.
    """
    missing = [sid for sid in starts.sids if f"{split}/{sid}" not in finished]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise ValueError(
            f"{split}: {len(missing)} of {len(starts.sids)} structures are not relaxed yet "
            f"({', '.join(missing[:_SHOWN])}{more}): run the same command again"
        )
    relaxed, targets = [], []
    for sid in starts.sids:
        relaxed.append(as_relaxed(finished[f"{split}/{sid}"], starts.initial(sid)))
        targets.append(starts.target(sid))
    pairs = list(zip(relaxed, targets, strict=True))
    good = [(r, t) for r, t in pairs if not r.failed]
    known = [(r, t) for r, t in good if t.energy is not None]
    placed = [(r, t) for r, t in good if t.positions is not None and r.atoms.pbc.all()]
    metrics = {
        IS2RE: is2re_metrics([r.energy for r, _ in known], [t.energy for _, t in known]),
        IS2RS: is2rs_metrics((r.atoms, t.positions) for r, t in placed),
        "structures": len(relaxed),
        "converged": sum(r.converged for r in relaxed),
        "failed": sum(r.failed for r in relaxed),
        "mean_steps": float(np.mean([r.steps for r in relaxed])),
    }
    rows = [_row(sid, r, t) for sid, (r, t) in zip(starts.sids, pairs, strict=True)]
    return SplitResults(relaxed, targets, rows, metrics)


def write_split(results: Path, split: str, found: SplitResults) -> None:
    """Write ``is2re/<split>.npz``, ``is2rs/<split>.npz`` and ``tables/<split>.csv``.

    Relaxations that failed have no result, and are left out of the first two.

    Raises:
        OSError: a file cannot be written.
    """
    good = [(row, r) for row, r in zip(found.rows, found.relaxed, strict=True) if not r.failed]
    sids = [row.sid for row, _ in good]
    write_is2re(results / IS2RE / f"{split}.npz", sids, [r.energy for _, r in good])
    write_is2rs(results / IS2RS / f"{split}.npz", sids, [r.atoms.positions for _, r in good])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in dataclasses.fields(Row)])
    writer.writerows(dataclasses.astuple(row) for row in found.rows)
    save_text(results / TABLES / f"{split}.csv", text.getvalue())


def _row(sid: str, relaxed: Relaxed, target: Target) -> Row:
    predicted = len(relaxed.energies) > 0
    moved = np.linalg.norm(relaxed.atoms.positions - relaxed.initial.positions, axis=1)
    placed = target.positions is not None and relaxed.atoms.pbc.all() and not relaxed.failed
    return Row(
        sid=sid,
        atoms=len(relaxed.atoms),
        steps=relaxed.steps,
        converged=relaxed.converged,
        energy_eV=relaxed.energy if predicted else None,
        energy_change_eV=float(relaxed.energies[-1] - relaxed.energies[0]) if predicted else None,
        fmax_eV_per_A=float(relaxed.fmax[-1]) if predicted else None,
        largest_move_A=float((moved * free_atoms(relaxed.atoms)).max(initial=0.0)),
        dft_energy_eV=target.energy,
        mean_distance_A=mean_distance(relaxed.atoms, target.positions) if placed else None,
        error=relaxed.error,
    )
