"""What all processes of a relaxation job left becomes files, scores and a report."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fairchem.core.scripts.make_submission_file import SPLITS, write_predictions

from eqv2_plugin.checkpoints.energy_kind import EnergyKind
from eqv2_plugin.evaluation.relaxation.inputs import Starts
from eqv2_plugin.evaluation.relaxation.report import write_relaxation_report
from eqv2_plugin.evaluation.relaxation.results import (
    IS2RE,
    IS2RS,
    SplitResults,
    read_finished,
    split_results,
    write_split,
)
from eqv2_plugin.evaluation.relaxation.store import PATTERN, read_description
from eqv2_plugin.files import save_text, whole_file

METRICS, REPORT = "metrics.json", "report.html"


@dataclass(frozen=True)
class ResultOptions:
    """What is written when all structures are relaxed.

    Attributes:
        dataset: "oc20" or "oc22", whose splits make a submission.
        pictures: relaxations per split that the report draws.
        facts: copied into ``metrics.json`` and the report.
    """

    dataset: str
    pictures: int
    facts: Mapping[str, str | None]

    def __post_init__(self) -> None:
        if self.dataset.upper() not in SPLITS:
            known = ", ".join(name.lower() for name in SPLITS)
            raise ValueError(f"dataset must be one of {known}, not {self.dataset!r}")
        if self.pictures < 0:
            raise ValueError(f"pictures must be a number from 0, got {self.pictures}")


def write_results(
    results: Path,
    starts: Mapping[str, Starts],
    options: ResultOptions,
    kind: EnergyKind,
    notes: Sequence[str],
) -> str:
    """Join what all processes left, and write it.

    Files: ``is2re/<split>.npz`` and ``is2rs/<split>.npz`` for EvalAI, their joined
    ``is2re_submission.npz`` and ``is2rs_submission.npz`` where all splits of the data set are
    there, ``tables/<split>.csv``, ``metrics.json`` and ``report.html``.

    Args:
        results: folder with the relaxations, and for the files.
        starts: {split: its structures}.
        options: see there.
        kind: of the model's energies.
        notes: what the reader must know of the energies, see `energy_notes`.

    Returns:
        What to tell the user.

    Raises:
        ValueError: relaxations are missing, twice there or damaged.
        RuntimeError: every relaxation failed.
        OSError: a file cannot be written.
    """
    finished = read_finished(results)
    splits = {split: split_results(split, found, finished) for split, found in starts.items()}
    failed = [row for found in splits.values() for row in found.failed]
    if len(failed) == sum(len(found.rows) for found in splits.values()):
        raise RuntimeError(f"every relaxation failed; {failed[0].sid}: {failed[0].error}")
    for split, found in splits.items():
        write_split(results, split, found)
    description = read_description(next(iter(sorted(results.glob(PATTERN))))) or {}
    facts = dict(options.facts)
    metrics = {split: found.metrics for split, found in splits.items()}
    energy = {"kind": kind.value, "notes": list(notes)}
    report = {"facts": facts, "made with": description, "energy": energy, "splits": metrics}
    save_text(results / METRICS, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    write_relaxation_report(results / REPORT, facts, description, splits, options.pictures, notes)
    lines = [*_summary(splits, notes), *_submissions(results, splits, options.dataset)]
    return "\n".join([*lines, f"Report: {results / REPORT}"])


def _submissions(results: Path, splits: Mapping[str, SplitResults], dataset: str) -> list[str]:
    """Join the splits; says what was written, or why not."""
    wanted = SPLITS[dataset.upper()]
    missing = [split for split in wanted if split not in splits]
    if missing:
        return [f"No submission file: it needs the split(s) {', '.join(missing)}, too."]
    failed = sum(len(found.failed) for found in splits.values())
    if failed:
        return [f"No submission file: {failed} failed structure(s) would be missing in it."]
    for kind in (IS2RE, IS2RS):
        files = {split: str(results / kind / f"{split}.npz") for split in wanted}
        with whole_file(results / f"{kind}_submission.npz") as building:
            write_predictions(
                argparse.Namespace(
                    is2re_relaxations=False,
                    dataset=dataset.upper(),
                    out_path=str(building),
                    **files,
                )
            )
    return [f"EvalAI: {results / f'{kind}_submission.npz'}" for kind in (IS2RE, IS2RS)]


def _summary(splits: Mapping[str, SplitResults], notes: Sequence[str]) -> list[str]:
    head = f"{'split':<10} {'structures':>10} {'converged':>9} {'failed':>6} {'steps':>6}"
    head += f" {'energy MAE eV':>13} {'EwT %':>6} {'ADwT %':>6}"
    lines = ["", head, "-" * len(head)]
    for split, found in splits.items():
        m = found.metrics
        energy, distance = m[IS2RE], m[IS2RS]
        numbers = [
            f"{energy['energy_mae_eV']:.3f}" if energy else "-",
            f"{100 * energy['energy_within_threshold']:.1f}" if energy else "-",
            f"{100 * distance['average_distance_within_threshold']:.1f}" if distance else "-",
        ]
        lines.append(
            f"{split:<10} {m['structures']:>10,} {m['converged']:>9,} {m['failed']:>6,} "
            f"{m['mean_steps']:>6.1f} {numbers[0]:>13} {numbers[1]:>6} {numbers[2]:>6}"
        )
    return [*lines, "", *(f"NOTE: {note}" for note in notes)]
