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
    description: Mapping[str, Any],
    splits: Mapping[str, SplitResults],
    pictures: int,
    notes: Sequence[str],
) -> None:
    """Write a report: settings, what failed, scores, all relaxations, and pictures of some.

    Args:
        path: HTML file.
        facts: about the job, for the first table.
        description: what the relaxations were made with.
        splits: results.
        pictures: relaxations per split that are drawn, the first ones of the data.
        notes: what must not be overlooked; the report begins with it.

    Raises:
        OSError: it cannot be written.
    """
    sections = [_summary(facts, description, splits, notes)]
    for split, found in splits.items():
        sections += [*_failed(split, found), *_anomalies(split, found)]
    sections.append(_scores(splits))
    sections += [_overview(split, found) for split, found in splits.items()]
    for split, found in splits.items():
        sections += _drawn(split, found, pictures, description["settings"]["fmax"])
    sections += [_table(split, found) for split, found in splits.items()]
    write_report(path, "Relaxations", sections)


def _summary(
    facts: Mapping[str, str | None],
    description: Mapping[str, Any],
    splits: Mapping[str, SplitResults],
    notes: Sequence[str],
) -> Section:
    settings = ", ".join(f"{key} {value}" for key, value in description["settings"].items())
    rows = [
        *facts.items(),
        ("energies", description["energy"]),
        ("checkpoint (SHA-256)", description["checkpoint_sha256"]),
        ("task, precision", f"{description['task_name']}, {description['precision']}"),
        ("relaxation", settings),
        *((f"split {split}", _counts(found)) for split, found in splits.items()),
    ]
    return Section("Job", "\n".join(notes), ("what", "value"), rows)


def _counts(found: SplitResults) -> str:
    m = found.metrics
    return (
        f"{m['structures']:,} structures, {m['converged']:,} converged, {m['failed']:,} failed, "
        f"{m['mean_steps']:.1f} steps on average"
    )


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
    if not found.failed:
        return []
    rows = [(row.sid, row.steps, row.submitted or "-", row.error) for row in found.failed]
    text = (
        f"{len(rows):,} structures, of which {len(found.missing):,} are missing in the EvalAI "
        "files and in the scores."
    )
    header = ("sid", "steps", "in the files", "reason")
    return [Section(f"{split}: failed", text, header, rows[:_ROWS])]


def _anomalies(split: str, found: SplitResults) -> list[Section]:
    rows = [(row.sid, text) for row in found.rows for text in row.anomalies.values()]
    if not rows:
        return []
    text = (
        "Relaxed structures that no calculation is meant to end in. They are in files and scores."
    )
    return [Section(f"{split}: anomalies", text, ("sid", "what is wrong"), rows[:_ROWS])]


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
    rows = [
        ["-" if value is None else value for value in row.cells()] for row in found.rows[:_ROWS]
    ]
    more = len(found.rows) - len(rows)
    text = f"The first {_ROWS}; all {len(found.rows):,} are in tables/{split}.csv." if more else ""
    return Section(f"{split}: all relaxations", text, HEADER, rows)
