"""The finished relaxations of a split: EvalAI files, a table and scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator

from eqv2_plugin.common.files import save_text
from eqv2_plugin.common.text import listed
from eqv2_plugin.data.conversion.extxyz_writing import extxyz_text
from eqv2_plugin.data.ids import system_ids
from eqv2_plugin.inference.relaxation import Relaxed
from eqv2_plugin.inference.store import as_relaxed
from eqv2_plugin.tasks.relaxation.anomalies import ANOMALIES
from eqv2_plugin.tasks.relaxation.initial_structures import InitialStructures, Target
from eqv2_plugin.tasks.relaxation.metrics import is2re_metrics, is2rs_metrics
from eqv2_plugin.tasks.relaxation.rows import Row, as_csv, make_row, submitted
from eqv2_plugin.tasks.submission.joined import CheckedFile, checked
from eqv2_plugin.tasks.submission.layout import write_is2re, write_is2rs

IS2RE, IS2RS, TABLES = "is2re", "is2rs", "tables"


@dataclass(frozen=True)
class SplitResults:
    """All relaxations of one split."""

    relaxed: Sequence[Relaxed]  # in the order of the data
    submitted: Sequence[Relaxed | None]  # what goes into the files; see `rows.submitted`
    targets: Sequence[Target]  # DFT's results, in the same order
    rows: Sequence[Row]  # of the table
    metrics: dict[str, Any]  # of the submitted ones, and counts

    @property
    def missing(self) -> list[Row]:
        """Those that are not in the files."""
        return [row for row in self.rows if not row.submitted]


def split_results(
    split: str, initial: InitialStructures, finished: Mapping[str, Mapping[str, Any]], choice: str
) -> SplitResults:
    """Collect a split; ``choice`` is what stands in for relaxations that failed (`CHOICES`)."""
    missing = [sid for sid in initial.sids if f"{split}/{sid}" not in finished]
    if missing:
        raise ValueError(
            f"{split}: {len(missing)} of {len(initial.sids)} structures are not relaxed yet "
            f"({listed(missing)}): run the same command again"
        )
    relaxed = [as_relaxed(finished[f"{split}/{sid}"], initial.initial(sid)) for sid in initial.sids]
    targets = [initial.target(sid) for sid in initial.sids]
    rows = [
        make_row(sid, one, target, choice)
        for sid, one, target in zip(initial.sids, relaxed, targets, strict=True)
    ]
    taken = [submitted(one, choice) for one in relaxed]
    return SplitResults(relaxed, taken, targets, rows, _metrics(rows, taken, targets))


def write_table(results: Path, split: str, found: SplitResults) -> None:
    """Write ``tables/<split>.csv``."""
    save_text(results / TABLES / f"{split}.csv", as_csv(found.rows))


def as_extxyz(found: SplitResults) -> str:
    """Where relaxations ended, with energies (eV) and forces (eV/Å) there, as text.

    ``atoms.info`` holds whether it ``converged``. Failed ones are left out.
    """
    frames = []
    for relaxed in found.relaxed:
        if relaxed.failed:
            continue
        atoms = relaxed.atoms.copy()
        atoms.info["converged"] = relaxed.converged
        atoms.calc = SinglePointCalculator(atoms, energy=relaxed.energy, forces=relaxed.forces)
        frames.append(extxyz_text(atoms, relaxed.id, Counter()))
    return "".join(frames)


def write_split(results: Path, split: str, found: SplitResults, dataset: str) -> list[CheckedFile]:
    """Write ``is2re/<split>.npz`` and ``is2rs/<split>.npz``.

    What is not submitted is left out; where nothing is, they are not there. They are checked, and
    returned.
    """
    ids = system_ids([row.sid for row in found.rows], split)
    good = [(one, r) for one, r in zip(ids, found.submitted, strict=True) if r is not None]
    paths = {task: results / task / f"{split}.npz" for task in (IS2RE, IS2RS)}
    if not good:
        for path in paths.values():
            path.unlink(missing_ok=True)
        return []
    names = [one for one, _ in good]
    write_is2re(paths[IS2RE], names, [r.energy for _, r in good])
    write_is2rs(paths[IS2RS], names, [r.atoms.positions for _, r in good])
    return [checked(path, dataset, task) for task, path in paths.items()]


def _metrics(
    rows: Sequence[Row], taken: Sequence[Relaxed | None], targets: Sequence[Target]
) -> dict[str, Any]:
    good = [(r, t) for r, t in zip(taken, targets, strict=True) if r is not None]
    known = [(r.energy, t.energy) for r, t in good if t.energy is not None]
    placed = [
        (r.atoms, t.positions) for r, t in good if t.positions is not None and r.atoms.pbc.all()
    ]
    failed = [row for row in rows if row.error]
    return {
        IS2RE: is2re_metrics([e for e, _ in known], [t for _, t in known]),
        IS2RS: is2rs_metrics(placed),
        "structures": len(rows),
        "converged": sum(row.converged for row in rows),
        "failed": len(failed),
        "failures": {r.sid: {"reason": r.error, "submitted": r.submitted} for r in failed},
        "anomalies": {
            kind: {row.sid: row.anomalies[kind] for row in rows if kind in row.anomalies}
            for kind in ANOMALIES
        },
        "mean_steps": float(np.mean([row.steps for row in rows])),
    }
