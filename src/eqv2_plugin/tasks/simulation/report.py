"""The HTML report of a simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eqv2_plugin.common.figures import for_a_talk
from eqv2_plugin.common.html import Section, write_report
from eqv2_plugin.tasks.simulation.analysis import Reference, Replica
from eqv2_plugin.tasks.simulation.pictures import along, distances
from eqv2_plugin.tasks.simulation.settings import SimulationSettings

_NAMES = {
    "stability_ps": "stability, ps",
    "hr_error": "h(r) error",
    "mean_temperature_K": "mean temperature, K",
    "drift_meV_per_atom_ps": "drift of the conserved energy, meV/atom/ps",
}


def write_simulation_report(
    path: Path,
    report: Mapping[str, Any],
    replicas: Sequence[Replica],
    reference: Reference,
    settings: SimulationSettings,
) -> None:
    """Write a report: notes and settings, numbers with their spread, and pictures.

    Args:
        path: HTML file.
        report: what ``metrics.json`` holds.
        replicas, reference, settings: what is drawn.

    Raises:
        OSError: it cannot be written.
    """
    header = list(report["replicas"][0])
    rows = [["-" if v is None else v for v in one.values()] for one in report["replicas"]]
    sections = [
        _job(report),
        _spread(report["summary"]),
        Section("Distances", images=[for_a_talk(distances, replicas, reference)]),
        Section("Along the simulation", images=[for_a_talk(along, replicas, settings.temperature)]),
        Section("Replicas", header=header, rows=rows),
    ]
    write_report(path, f"Simulation of {report['molecule']}", sections)


def _job(report: Mapping[str, Any]) -> Section:
    made = report["made with"]
    settings = ", ".join(f"{k} {v}" for k, v in made["settings"].items() if v is not None)
    rows = [
        ("molecule", f"{report['molecule']}, {report['formula']}"),
        *report["facts"].items(),
        ("checkpoint (SHA-256)", made["checkpoint_sha256"]),
        ("task, precision", f"{made['task_name']}, {made['precision']}"),
        ("simulation", f"{report['picoseconds']:g} ps, {settings}"),
        ("reference", f"{report['reference']['frames']:,} frames"),
    ]
    return Section("Job", "\n".join(report["notes"]), ("what", "value"), rows)


def _spread(summary: Mapping[str, Any]) -> Section:
    text = (
        f"Over {summary['replicas']} replica(s), of which {summary['ended_early']} ended early. "
        "Temperature, drift and h(r) are of the frames up to the first broken bond."
    )
    rows = []
    for name, shown in _NAMES.items():
        if found := summary.get(name):
            cells = ("-" if v is None else v for v in found.values())
            rows.append([shown, *cells])
    return Section("Results", text, ("what", "mean", "std", "least", "largest"), rows)
