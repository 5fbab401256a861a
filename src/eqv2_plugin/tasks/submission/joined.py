"""Files for EvalAI as they leave a job: splits joined, and every file checked."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from fairchem.core.scripts.make_submission_file import write_predictions

from eqv2_plugin.common.files import atomic_write
from eqv2_plugin.common.findings import Verdict
from eqv2_plugin.tasks.submission.check import check_submission
from eqv2_plugin.tasks.submission.layout import SPLITS


@dataclass(frozen=True)
class CheckedFile:
    """A file that was written, and what `eqv2 submission check` calls bad in it."""

    path: Path
    faults: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """ "ok", or the faults in one line."""
        return "; ".join(self.faults) or "ok"

    def lines(self) -> list[str]:
        """For the user, where the file is not what EvalAI reads; else none."""
        return [f"NOT FIT FOR EVALAI: {self.path}: {self.verdict}"] if self.faults else []


@dataclass(frozen=True)
class Written:
    """What there is to say when the results of a job are written."""

    text: str  # for the user
    error: str = ""  # why the job has failed nevertheless; empty if it has not


def checked(path: Path, dataset: str, task: str) -> CheckedFile:
    """Run a file of one split, or a joined one, through ``eqv2 submission check``."""
    found = check_submission(path, dataset, task)
    bad = [f"{line.check}: {line.text}" for line in found if line.verdict is Verdict.BAD]
    return CheckedFile(path, tuple(bad))


def missing_splits(dataset: str, splits: Collection[str]) -> str:
    """Why these splits make no submission; empty if they do."""
    missing = [split for split in SPLITS[dataset] if split not in splits]
    return f"No submission file: it needs the split(s) {', '.join(missing)}, too." * bool(missing)


def join_splits(path: Path, files: Mapping[str, Path], dataset: str, task: str) -> CheckedFile:
    """Join the files of all splits as fairchem's ``make_submission_file`` does, and check it."""
    wanted = {split: str(files[split]) for split in SPLITS[dataset]}
    with atomic_write(path) as building:
        write_predictions(
            argparse.Namespace(
                is2re_relaxations=False, dataset=dataset.upper(), out_path=str(building), **wanted
            )
        )
    return checked(path, dataset, task)
