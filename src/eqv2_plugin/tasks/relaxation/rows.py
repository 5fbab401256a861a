"""One relaxation among the results: what of it is submitted, and its line in the table."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eqv2_plugin.inference.relaxation import Relaxed
from eqv2_plugin.tasks.relaxation.anomalies import find_anomalies
from eqv2_plugin.tasks.relaxation.initial_structures import Target
from eqv2_plugin.tasks.relaxation.metrics import free_atoms, mean_distance

REFUSE, LAST_FINITE, INITIAL = "refuse", "last_finite", "initial"
# What stands in the files for EvalAI where a relaxation failed: the user's explicit choice.
CHOICES = {
    REFUSE: "left out, and no submission is written without them",
    LAST_FINITE: "energy and positions of the last step whose prediction was finite",
    INITIAL: "the initial structure, with the model's energy there",
}


def submitted(relaxed: Relaxed, choice: str) -> Relaxed | None:
    """What of a relaxation goes into the files, by a key of `CHOICES`.

    One that succeeded goes as it is; of one that failed what stands in for it, or None if nothing
    does: always so where the model predicted nothing finite.
    """
    if not relaxed.failed:
        return relaxed
    if choice == REFUSE or not len(relaxed.energies):
        return None
    if choice == LAST_FINITE:
        return relaxed
    return dataclasses.replace(
        relaxed, atoms=relaxed.initial.copy(), energy=float(relaxed.energies[0])
    )


@dataclass(frozen=True)
class Row:
    """A relaxation in the table; what is unknown is None."""

    sid: str  # of the structure, as the data have it
    atoms: int  # how many
    steps: int  # of the optimizer
    converged: bool  # see `Relaxed`
    energy_eV: float | None  # of the last structure that was predicted  # noqa: N815
    energy_change_eV: float | None  # that minus the initial one  # noqa: N815
    fmax_eV_per_A: float | None  # largest force at the end  # noqa: N815
    largest_move_A: float  # of an atom that may move  # noqa: N815
    dft_energy_eV: float | None  # of DFT's relaxed structure  # noqa: N815
    mean_distance_A: float | None  # of free atoms to DFT's, as in the files  # noqa: N815
    submitted: str  # what of it is in the files: "relaxed", "last_finite", "initial" or nothing
    anomalies: dict[str, str]  # what is wrong with the last structure; see `find_anomalies`
    error: str  # why it failed

    def cells(self) -> list[object]:
        """Values of the table, with the sentences of all anomalies in one cell."""
        values = {name: getattr(self, name) for name in HEADER}
        return list((values | {"anomalies": "; ".join(self.anomalies.values())}).values())


HEADER = [field.name for field in dataclasses.fields(Row)]


def make_row(sid: str, relaxed: Relaxed, target: Target, choice: str) -> Row:
    """The line of one relaxation; ``choice`` is a key of `CHOICES`."""
    predicted = len(relaxed.energies) > 0
    moved = np.linalg.norm(relaxed.atoms.positions - relaxed.initial.positions, axis=1)
    taken = submitted(relaxed, choice)
    distance = None
    if taken is not None and target.positions is not None and relaxed.atoms.pbc.all():
        distance = mean_distance(taken.atoms, target.positions)
    what = choice if relaxed.failed else "relaxed"
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
        mean_distance_A=distance,
        submitted="" if taken is None else what,
        anomalies=find_anomalies(relaxed.initial, relaxed.atoms) if predicted else {},
        error=relaxed.error,
    )


def as_csv(rows: Sequence[Row]) -> str:
    """The table as text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(row.cells() for row in rows)
    return text.getvalue()
