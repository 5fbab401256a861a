"""The HTML report of a relaxation job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eqv2_plugin.common.html import Section, write_report
from eqv2_plugin.tasks.relaxation.pictures import curves, drawn, overview, views
from eqv2_plugin.tasks.relaxation.rows import HEADER
from eqv2_plugin.tasks.relaxation.split_results import IS2RE, IS2RS, SplitResults

_ROWS = 200
_NAMES = {
    "energy_mae_eV": "energy MAE, eV",
    "EwT_percent": "EwT, % (within 0.02 eV)",
    "ADwT_percent": "ADwT, % (0.01 to 0.5 Å)",
    "mean_distance_A": "mean distance, Å",
}


def write_relaxation_report(
    path: Path,
    facts: Mapping[str, str | None],
    made_with: Mapping[str, Any],
    splits: Mapping[str, SplitResults],
    pictures: int,
    notes: Sequence[str],
) -> None:
    """Write a report: settings, what failed, scores, all relaxations, and pictures of some.

    Args:
        facts: about the job, for the first table.
        made_with: what the relaxations were made with.
        pictures: relaxations per split that are drawn, the first ones of the data.
        notes: what must not be overlooked; the report begins with it.
    """
    sections = [_summary(facts, made_with, splits, notes)]
    for split, found in splits.items():
        sections += [*_failed(split, found), *_anomalies(split, found)]
    sections.append(_scores(splits))
    sections += [_overview(split, found) for split, found in splits.items()]
    for split, found in splits.items():
        sections += _drawn(split, found, pictures, made_with["settings"]["fmax"])
    sections += [_table(split, found) for split, found in splits.items()]
    write_report(path, "Relaxations", sections)


def _summary(
    facts: Mapping[str, str | None],
    made_with: Mapping[str, Any],
    splits: Mapping[str, SplitResults],
    notes: Sequence[str],
) -> Section:
    settings = ", ".join(f"{key} {value}" for key, value in made_with["settings"].items())
    rows = [
        *facts.items(),
        ("energies", made_with["energy"]),
        ("checkpoint (SHA-256)", made_with["checkpoint_sha256"]),
        ("task, precision", f"{made_with['task_name']}, {made_with['precision']}"),
        ("relaxation", settings),
    ]
    for split, found in splits.items():
        m = found.metrics
        counts = f"{m['structures']:,} structures, {m['converged']:,} converged, {m['failed']:,} "
        rows.append((f"split {split}", f"{counts}failed, {m['mean_steps']:.1f} steps on average"))
    return Section("Job", "\n".join(notes), ("what", "value"), rows)


def _scores(splits: Mapping[str, SplitResults]) -> Section:
    header, rows = ["split", *_NAMES.values(), "with DFT energy", "with DFT positions"], []
    for split, found in splits.items():
        merged = {**found.metrics[IS2RE], **found.metrics[IS2RS]}
        counts = [found.metrics[kind].get("structures", 0) for kind in (IS2RE, IS2RS)]
        if any(counts):
            rows.append([split, *(merged.get(key, "-") for key in _NAMES), *counts])
    if not rows:
        return Section("Scores", "The data hold no DFT results to compare with.")
    return Section("Scores", "Against DFT, by fairchem's evaluator.", header, rows)


def _overview(split: str, found: SplitResults) -> Section:
    done = [(r.steps, float(r.fmax[-1])) for r in found.relaxed if len(r.fmax)]
    errors = [
        (target.energy, relaxed.energy)
        for relaxed, target in zip(found.relaxed, found.targets, strict=True)
        if target.energy is not None and not relaxed.failed
    ]
    return Section(f"{split}: overview", images=drawn(overview, done, errors) if done else [])


def _failed(split: str, found: SplitResults) -> list[Section]:
    rows = [(r.sid, r.steps, r.submitted or "-", r.error) for r in found.rows if r.error]
    text = (
        f"{len(rows):,} structures, of which {len(found.missing):,} are missing in the files and "
        "in the scores."
    )
    header = ("sid", "steps", "in the files", "reason")
    return [Section(f"{split}: failed", text, header, rows[:_ROWS])] if rows else []


def _anomalies(split: str, found: SplitResults) -> list[Section]:
    rows = [(row.sid, text) for row in found.rows for text in row.anomalies.values()]
    text = "Relaxed structures that no calculation is meant to end in, in files and scores as well."
    header = ("sid", "what is wrong")
    return [Section(f"{split}: anomalies", text, header, rows[:_ROWS])] if rows else []


def _drawn(split: str, found: SplitResults, pictures: int, fmax: float) -> list[Section]:
    sections = []
    for row, relaxed in list(zip(found.rows, found.relaxed, strict=True))[:pictures]:
        if not len(relaxed.energies):
            continue  # nothing has moved, and there may be no position to draw
        images = drawn(views, relaxed.initial, relaxed.atoms) + drawn(curves, relaxed, fmax)
        end = "converged" if relaxed.converged else relaxed.error or "not converged"
        text = f"{relaxed.initial.get_chemical_formula()}, {row.steps} steps, {end}"
        sections.append(Section(f"{split}: {row.sid}", text, images=images))
    return sections


def _table(split: str, found: SplitResults) -> Section:
    rows = [["-" if cell is None else cell for cell in row.cells()] for row in found.rows[:_ROWS]]
    more = len(found.rows) - len(rows)
    text = f"The first {_ROWS}; all {len(found.rows):,} are in tables/{split}.csv." if more else ""
    return Section(f"{split}: all relaxations", text, HEADER, rows)
