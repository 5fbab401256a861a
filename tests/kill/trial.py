"""One job, killed once and run again, in processes forked from one that has imported everything."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .operations import TORN, Operation, Operations
from .results import first_difference, results

if TYPE_CHECKING:
    from .jobs import Job

# A process that is still running then is taken for one that waits for ever.
SECONDS = 180


@dataclass(frozen=True)
class Point:
    """Where a job is disturbed.

    Attributes:
        number: of the operation.
        operation: what it is in an undisturbed run.
        what: see `Operations`.
    """

    number: int
    operation: Operation
    what: str

    def __str__(self) -> str:
        return f"{self.what} {self.operation} [{self.number}]"


@dataclass
class Undisturbed:
    """What a job does and leaves when it is left alone."""

    operations: list[Operation]
    results: dict[str, Any] = field(repr=False)

    def points(self, modes: tuple[str, ...] = ("after", "torn")) -> list[Point]:
        """Every point at which something other can be left behind.

        Of many writes into one file, one after the other: the first, one in the middle, the last.
        """
        found = []
        for _, group in groupby(enumerate(self.operations), key=lambda entry: entry[1]):
            same = [entry for entry in group if not entry[1].failed]
            for number, operation in {same[i] for i in (0, len(same) // 2, -1) if same}:
                for what in modes:
                    if what != "torn" or operation.name in TORN:
                        found.append(Point(number, operation, what))
        return sorted(found, key=lambda point: (point.number, point.what))


def undisturbed(job: Job, inputs: Path, work: Path) -> Undisturbed:
    """Run a job alone.

    Raises:
        RuntimeError: it fails.
    """
    folder = work / "undisturbed"
    seen = work / "undisturbed.json"

    def record() -> None:
        operations = Operations(folder)
        operations.install()
        job.run(inputs, folder)
        with operations._open(seen, "w") as file:
            json.dump([astuple(operation) for operation in operations.seen], file)

    ended = in_child(record, work / "undisturbed.log", folder)
    if ended != 0:
        raise RuntimeError(f"{job.name} fails undisturbed: {tail(work / 'undisturbed.log')}")
    operations = [
        Operation(name, without_random(path), without_random(to), failed)
        for name, path, to, failed in json.loads(seen.read_text())
    ]
    return Undisturbed(operations, results(folder, folder / job.results))


def killed_and_run_again(
    job: Job, point: Point, alone: Undisturbed, inputs: Path, work: Path
) -> str | None:
    """What is wrong after the same command was run again; None if nothing is.

    Args:
        job: the job.
        point: where it is disturbed.
        alone: the undisturbed run.
        inputs: see `write_inputs`.
        work: folder for this trial.
    """
    # All runs of a job have folders of the same length, so that texts break alike.
    folder = work / "disturbed__"[: len("undisturbed")]
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)

    def disturbed() -> None:
        Operations(folder, point.number, point.what).install()
        job.run(inputs, folder)

    ended = in_child(disturbed, work / "disturbed.log", folder)
    if point.what != "full" and ended != -signal.SIGKILL:
        return f"was not killed, but ended with {ended}: {tail(work / 'disturbed.log')}"
    return again(job, alone, inputs, work, folder)


def two_at_once(job: Job, alone: Undisturbed, inputs: Path, work: Path) -> str | None:
    """Two processes in one folder: one or both end well, and nothing is doubled or lost."""
    folder = work / "disturbed__"[: len("undisturbed")]
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    children = [
        fork(lambda: job.run(inputs, folder), work / f"{number}.log", folder) for number in (0, 1)
    ]
    ended = [wait(child) for child in children]
    if 0 not in ended:
        return f"both ended with {ended}: {tail(work / '0.log')} | {tail(work / '1.log')}"
    return again(job, alone, inputs, work, folder)


def again(job: Job, alone: Undisturbed, inputs: Path, work: Path, folder: Path) -> str | None:
    """The same command again, and its results compared."""
    done = folder / job.results
    finished = job.refuses and first_difference(alone.results, results(folder, done)) is None
    ended = in_child(lambda: job.run(inputs, folder), work / "again.log", folder)
    if ended != 0 and not finished:
        return f"the same command ends with {ended}: {tail(work / 'again.log')}"
    return first_difference(alone.results, results(folder, done))


def in_child(work: Callable[[], Any], log: Path, folder: Path) -> int:
    """Run in a forked process; returns how it ended, as `subprocess` says it."""
    return wait(fork(work, log, folder))


def fork(work: Callable[[], Any], log: Path, folder: Path) -> int:
    """Start in a forked process, in a session of its own; returns its id."""
    folder.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        work()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(child: int) -> int:
    """How it ended; after `SECONDS`, it is killed with all that it has started."""
    end = time.monotonic() + SECONDS
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > end:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 124
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(status)


def tail(log: Path) -> str:
    """The last line that says something."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "(no output)"


def without_random(path: str) -> str:
    """A path without the parts that differ from run to run: random letters and process ids."""
    path = re.sub(r"[0-9a-f]{32}", "*", path)
    return re.sub(r"(?<=\.)[1-9]\d{0,6}(?=\.|$)", "PID", path)
