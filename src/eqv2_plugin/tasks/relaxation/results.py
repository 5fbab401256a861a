"""What all processes of a relaxation job left becomes files, scores and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eqv2_plugin.common.files import save_json, save_text
from eqv2_plugin.common.text import table
from eqv2_plugin.inference.store import read_finished, read_made_with
from eqv2_plugin.models.metadata import EnergyKind
from eqv2_plugin.tasks.relaxation.initial_structures import InitialStructures
from eqv2_plugin.tasks.relaxation.notes import nothing_relaxed, refusal, result_notes
from eqv2_plugin.tasks.relaxation.report import write_relaxation_report
from eqv2_plugin.tasks.relaxation.rows import CHOICES, REFUSE
from eqv2_plugin.tasks.relaxation.split_results import (
    IS2RE,
    IS2RS,
    SplitResults,
    as_extxyz,
    split_results,
    write_split,
    write_table,
)
from eqv2_plugin.tasks.submission.joined import CheckedFile, Written, join_splits, missing_splits
from eqv2_plugin.tasks.submission.layout import SPLITS, check_dataset

METRICS, REPORT = "metrics.json", "report.html"
_COLUMNS = ["split", "structures", "converged", "failed", "anomalies", "steps", "energy MAE eV",
            "EwT %", "ADwT %"]  # fmt: skip


@dataclass(frozen=True)
class ResultOptions:
    """What is written when all structures are relaxed."""

    # "oc20" or "oc22", whose splits make a submission; None: of no leaderboard.
    dataset: str | None
    pictures: int  # relaxations per split that the report draws
    facts: Mapping[str, str | None]  # copied into ``metrics.json`` and the report
    # What stands in the files for a relaxation that failed: "refuse" (nothing, and no submission
    # without it), "last_finite" or "initial"; see `rows.CHOICES`.
    failed: str = REFUSE

    def __post_init__(self) -> None:
        if self.dataset is not None:
            check_dataset(self.dataset)
        if self.pictures < 0:
            raise ValueError(f"pictures must be a number from 0, got {self.pictures}")
        if self.failed not in CHOICES:
            raise ValueError(f"failed must be one of {', '.join(CHOICES)}, not {self.failed!r}")


def write_results(
    results: Path,
    initial: Mapping[str, InitialStructures],
    options: ResultOptions,
    kind: EnergyKind,
    notes: Sequence[str],
) -> Written:
    """Join what all processes left, and write it.

    Files: ``is2re/<split>.npz`` and ``is2rs/<split>.npz`` for EvalAI, their joined
    ``is2re_submission.npz`` and ``is2rs_submission.npz`` where all splits of the data set are
    there, ``tables/<split>.csv``, ``metrics.json`` and ``report.html``. The last three are
    written where every relaxation failed, too. Of no leaderboard's data there is
    ``<split>.extxyz`` instead of the files for EvalAI.

    Args:
        results: folder with the relaxations, and for the files.
        initial: {split: its structures}.
        kind: of the model's energies.
        notes: what the reader must know of the energies.

    Raises:
        ValueError: relaxations are missing or damaged, or two sids have the same id at EvalAI.
    """
    finished = read_finished(results)
    splits = {
        split: split_results(split, found, finished.records, options.failed)
        for split, found in initial.items()
    }
    files: list[CheckedFile] = []
    for split, found in splits.items():
        write_table(results, split, found)
        if options.dataset is None:
            save_text(results / f"{split}.extxyz", as_extxyz(found))
        else:
            files += write_split(results, split, found, options.dataset)
    joined, refused = _submissions(results, splits, options)
    files += joined
    made_with = read_made_with(results)
    said = result_notes(splits, made_with["settings"], options.failed)
    said += [note] if (note := finished.note()) else []
    said += [line for file in files for line in file.lines()]
    said += notes
    report = {
        "notes": said,
        "facts": dict(options.facts),
        "made with": made_with,
        "energy": {"kind": kind.value, "notes": list(notes)},
        "failed": options.failed,
        "splits": {split: found.metrics for split, found in splits.items()},
        "relaxed twice": list(finished.twice),
        "files": {str(file.path.relative_to(results)): file.verdict for file in files},
    }
    save_json(results / METRICS, report)
    facts = {**options.facts, "failed": f"{options.failed}: {CHOICES[options.failed]}"}
    write_relaxation_report(results / REPORT, facts, made_with, splits, options.pictures, said)
    lines = [*(f"NOTE: {one}" for one in said), ""]
    lines += [table(_COLUMNS, [_cells(split, found) for split, found in splits.items()]), ""]
    lines += [f"EvalAI: {file.path}" for file in joined if not file.faults]
    if options.dataset is None:
        lines += [f"Relaxed structures: {results / split}.extxyz" for split in splits]
    lines += [refused] if refused else []
    error = nothing_relaxed(splits)
    where = f"Report: {results / REPORT}"
    return Written("\n".join(["", *lines, where]), f"{error}. {where}" if error else "")


def _submissions(
    results: Path, splits: Mapping[str, SplitResults], options: ResultOptions
) -> tuple[list[CheckedFile], str]:
    """Join the splits; returns what was written, or why nothing was."""
    if options.dataset is None:
        return [], ""
    paths = {task: results / f"{task}_submission.npz" for task in (IS2RE, IS2RS)}
    refused = missing_splits(options.dataset, splits)
    if not refused:
        wanted = {split: splits[split] for split in SPLITS[options.dataset]}
        refused = refusal(wanted, options.failed)
    if refused:
        for path in paths.values():
            path.unlink(missing_ok=True)  # of an earlier choice
        return [], refused
    found = []
    for task, path in paths.items():
        files = {split: results / task / f"{split}.npz" for split in splits}
        found.append(join_splits(path, files, options.dataset, task))
    return found, ""


def _cells(split: str, found: SplitResults) -> list[str]:
    m = found.metrics
    energy, distance = m[IS2RE], m[IS2RS]
    return [
        split,
        *(f"{m[key]:,}" for key in ("structures", "converged", "failed")),
        f"{sum(bool(row.anomalies) for row in found.rows):,}",
        f"{m['mean_steps']:.1f}",
        f"{energy['energy_mae_eV']:.3f}" if energy else "-",
        f"{energy['EwT_percent']:.1f}" if energy else "-",
        f"{distance['ADwT_percent']:.1f}" if distance else "-",
    ]
