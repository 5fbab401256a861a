"""What all processes of a simulation left becomes numbers, trajectories and a report."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eqv2_plugin.common.files import save_json, save_text
from eqv2_plugin.common.text import table
from eqv2_plugin.tasks.simulation.analysis import Reference, Replica, analyse
from eqv2_plugin.tasks.simulation.frames import frames_path, read_frames, write_trajectory
from eqv2_plugin.tasks.simulation.molecule import Molecule
from eqv2_plugin.tasks.simulation.report import write_simulation_report
from eqv2_plugin.tasks.simulation.settings import SimulationSettings

METRICS, REPORT, TABLE, TRAJECTORIES = (
    "metrics.json", "report.html", "replicas.csv", "trajectories",
)  # fmt: skip
# Of the table: a name for machines, one for people, and how it is written.
COLUMNS = {
    "stability_ps": ("stability ps", ".4g"),
    "hr_error": ("h(r) error", ".3f"),
    "mean_temperature_K": ("temperature K", ".1f"),
    "drift_meV_per_atom_ps": ("drift meV/atom/ps", ".3g"),
}


def write_results(
    results: Path,
    molecule: Molecule,
    reference: Reference,
    settings: SimulationSettings,
    made_with: Mapping[str, Any],
    facts: Mapping[str, str | None],
) -> str:
    """Write ``metrics.json``, ``replicas.csv``, ``report.html`` and the trajectories.

    Args:
        results: folder with the frames of all batches, and for the files.
        molecule, settings: what was simulated, and how.
        reference: what it is compared with.
        made_with: what the frames were made with.
        facts: copied into the first and the third.

    Returns:
        The summary for the screen.

    Raises:
        ValueError: frames are damaged.
        OSError: a file cannot be written.
    """
    numbers = molecule.atoms.numbers
    replicas: list[Replica] = []
    for batch in settings.batches():
        frames = list(read_frames(frames_path(results, batch.start), len(numbers)))
        for index, number in enumerate(batch):
            path = results / TRAJECTORIES / f"replica_{number:03d}.traj"
            write_trajectory(path, molecule.atoms, frames, index)
            replicas.append(analyse(frames, index, number, numbers, reference, settings))
    shown = summary(replicas)
    sampling = reference.sampling_error(max(len(replica.times) for replica in replicas))
    notes = _notes(replicas, settings, sampling)
    report = {
        "notes": notes,
        "facts": dict(facts),
        "made with": dict(made_with),
        "molecule": molecule.name,
        "formula": molecule.atoms.get_chemical_formula(),
        "picoseconds": settings.picoseconds,
        "reference": {"frames": len(reference.positions), "sampling_hr_error": sampling},
        "summary": shown,
        "replicas": [row(replica) for replica in replicas],
    }
    save_json(results / METRICS, report)
    save_text(results / TABLE, _csv(report["replicas"]))
    write_simulation_report(results / REPORT, report, replicas, reference, settings)
    return "\n".join(
        [
            "",
            *(f"NOTE: {note}" for note in notes),
            table(
                ["molecule", "replicas", "ended", *(name for name, _ in COLUMNS.values())],
                [[molecule.name, str(len(replicas)), str(_ended(replicas)), *spreads(shown)]],
            ),
            "",
            f"Report: {results / REPORT}",
        ]
    )


def row(replica: Replica) -> dict[str, Any]:
    """The numbers of one replica; None where they are not known."""
    return {
        "replica": replica.number,
        "stability_ps": replica.stability_ps,
        "hr_error": replica.hr_error,
        "mean_temperature_K": replica.mean_temperature,
        "std_temperature_K": replica.std_temperature,
        "drift_meV_per_atom_ps": replica.drift if np.isfinite(replica.drift) else None,
        "largest_bond_deviation_A": float(replica.deviation.max()),
        "frames": len(replica.times),
        "ended_at_step": replica.end and replica.end.step,
        "ended_because": replica.end and replica.end.reason,
    }


def summary(replicas: Sequence[Replica]) -> dict[str, Any]:
    """{column: mean, standard deviation (n - 1), least and largest over replicas}."""
    found: dict[str, Any] = {"replicas": len(replicas), "ended_early": _ended(replicas)}
    rows = [row(replica) for replica in replicas]
    for name in COLUMNS:
        values = np.array([one[name] for one in rows if one[name] is not None])
        if len(values):
            spread = float(values.std(ddof=1)) if len(values) > 1 else None
            found[name] = {
                "mean": float(values.mean()), "std": spread,
                "min": float(values.min()), "max": float(values.max()),
            }  # fmt: skip
    return found


def spreads(shown: Mapping[str, Any]) -> list[str]:
    """ "mean ± std" of each column of a `summary`; "-" where nothing is known."""
    cells = []
    for name, (_, form) in COLUMNS.items():
        one = shown.get(name)
        cells.append("-" if one is None else f"{one['mean']:{form}}")
        if one is not None and one["std"] is not None:
            cells[-1] += f" ± {one['std']:{form}}"
    return cells


def _ended(replicas: Sequence[Replica]) -> int:
    return sum(replica.end is not None for replica in replicas)


def _notes(replicas: Sequence[Replica], settings: SimulationSettings, sampling: float) -> list[str]:
    notes = []
    if ended := [replica for replica in replicas if replica.end is not None]:
        first = ended[0]
        notes.append(
            f"{len(ended)} of {len(replicas)} replica(s) ended early; replica {first.number} at "
            f"step {first.end.step:,}: {first.end.reason}"
        )
    if broken := sum(r.stability_ps < r.times[-1] - 1e-9 for r in replicas):
        notes.append(f"a bond broke in {broken} of {len(replicas)} replica(s)")
    notes.append(
        f"an h(r) error of {sampling:.2g} is the least to expect of {settings.picoseconds:g} ps: "
        "as many frames of the reference, drawn at random, differ by that from all of them"
    )
    return notes


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
