"""The whole matrix by one command, and the sample of it that the tests take."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
TWICE = "two at once"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run trials; 1 if a result differs."""
    options = _options(arguments)
    for folder in ("", "tasks/adsorbml", "tasks/relaxation", "data/conversion"):
        sys.path.insert(0, str(TESTS / folder))
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    from .jobs import JOBS, write_inputs
    from .sample import SAMPLE, chosen
    from .trial import undisturbed
    from .warm import warm

    names = options.job or [name for name in JOBS if SAMPLE[name] or not options.sample]
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    # Kept for the next run with the same folder, which goes on; other inputs, other results.
    inputs = work / "inputs"
    if not (work / "inputs.done").exists():
        shutil.rmtree(inputs, ignore_errors=True)
        write_inputs(inputs)
        (work / "inputs.done").touch()
    warm()
    journal = Journal(work / "trials.jsonl")
    for name in names:
        begun = time.monotonic()
        place = work / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        alone = undisturbed(JOBS[name], inputs, place)
        seconds = time.monotonic() - begun
        points = alone.points(tuple(options.modes))
        points = chosen(points, SAMPLE[name]) if options.sample else points[:: options.every]
        counts = f"{len(alone.operations)} operations, {len(points)} points"
        print(f"{name}: {counts}, {seconds:.1f} s a run", flush=True)
        _run(JOBS[name], alone, points, inputs, place, journal, options)
    return _table(journal, names)


class Journal:
    """The trials that are done, one to a line: a killed matrix goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[tuple[str, str], dict[str, Any]] = {}
        self.read()

    def read(self) -> None:
        """Take in what other processes have added."""
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                record = json.loads(line)
                self.done[record["job"], record["point"]] = record

    def add(self, job: str, point: str, problem: str | None, seconds: float) -> None:
        """Note one, and say what is wrong with it."""
        record = {"job": job, "point": point, "problem": problem, "seconds": round(seconds, 2)}
        self.done[job, point] = record
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if problem:
            print(f"  {job}: {point}: {problem}", flush=True)


def _run(job, alone, points: Iterable, inputs: Path, place: Path, journal, options) -> None:
    from .trial import killed_and_run_again, two_at_once

    def one(entry: tuple[int, Any]) -> None:
        number, point = entry
        if (job.name, str(point)) in journal.done:
            return
        begun = time.monotonic()
        work = place / f"{number:04d}"
        if point == TWICE:
            problem = two_at_once(job, alone, inputs, work)
        else:
            problem = killed_and_run_again(job, point, alone, inputs, work)
        journal.add(job.name, str(point), problem, time.monotonic() - begun)
        if not problem:
            shutil.rmtree(work)

    wanted = [*points, *([TWICE] * options.twice)]
    entries = list(enumerate(wanted))
    # Shares, each in a process of its own; all add lines to one journal.
    shares = []
    for share in range(options.jobs):
        if child := os.fork():
            shares.append(child)
            continue
        try:
            for entry in entries[share :: options.jobs]:
                one(entry)
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    failed = [share for share in shares if os.waitpid(share, 0)[1]]
    journal.read()
    if failed:
        raise RuntimeError(f"{len(failed)} of {options.jobs} processes that make trials failed")


def _table(journal: Journal, names: Sequence[str]) -> int:
    """Print one row for each job; 1 if anything is wrong."""
    print(f"\n{'job':<14}{'trials':>8}{'wrong':>8}{'s/trial':>9}")
    wrong = 0
    for name in names:
        records = [r for (job, _), r in journal.done.items() if job == name]
        bad = sum(r["problem"] is not None for r in records)
        mean = sum(r["seconds"] for r in records) / max(len(records), 1)
        print(f"{name:<14}{len(records):>8}{bad:>8}{mean:>9.1f}")
        wrong += bad
    return 1 if wrong else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/kill", description=__doc__)
    parser.add_argument("job", nargs="*", help="jobs (default: all)")
    parser.add_argument(
        "--work", type=Path, default=Path("runs/kill"),
        help="folder for inputs, runs and trials.jsonl; an interrupted matrix goes on there. What "
        "went wrong stays in it",
    )  # fmt: skip
    parser.add_argument("--every", type=int, default=1, help="take every N-th point")
    parser.add_argument("--jobs", type=int, default=1, help="trials at the same time")
    parser.add_argument(
        "--modes", nargs="+", default=["after", "torn"], choices=["after", "torn", "full"],
        help="killed after an operation, killed within it, or a full disk from it on",
    )  # fmt: skip
    parser.add_argument("--twice", action="store_true", help="two processes at once, too")
    parser.add_argument("--sample", action="store_true", help="only the points that the tests take")
    return parser.parse_args(arguments)
