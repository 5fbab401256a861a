"""All that is measured on a GPU, in one command of under 12 minutes.

    python benchmarks/gpu_session.py                         on a machine with one
    python benchmarks/gpu_session.py --device cpu --tiny     to see that everything runs

Parts come in order of value. Each has a time limit and a process of its own; each row is on disk
(--out) as soon as it is known: a call that is cut off, or whose --budget ends, is gone on with by
the next one. --out/session.md has all tables; commit it with the card's name.

The reference, fairchem-core 1.10, needs a Python of its own: --reference "COMMAND", for instance
that of `compare_reference.py` (runs/reference_env/bin/python), or, where nothing can be compiled or
downloaded, "env PYTHONPATH=FOLDER/reference python3" after `session/prepare.sh FOLDER` on another
machine. Without it, its columns are missing.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from session.log import Log, markdown
from session.setting import Jobs, Setting


@dataclass(frozen=True)
class Part:
    """A module of `session` with ``jobs``, and the seconds that it may take."""

    name: str
    limit: int

    def jobs(self, setting: Setting) -> Jobs:
        return importlib.import_module(f"session.{self.name}").jobs(setting)

    @property
    def title(self) -> str:
        return (importlib.import_module(f"session.{self.name}").__doc__ or "").strip()


PARTS = (
    Part("kernel_tests", 110),
    Part("equalities", 90),
    Part("comparison", 210),
    Part("recipe", 95),
    Part("precision", 40),
    Part("relaxations", 60),
    Part("profiles", 50),
    Part("presets", 45),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [part.name for part in PARTS]
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument("--budget", type=float, default=700.0, help="seconds in all")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--reference", help="command of a Python with fairchem-core 1.10")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu_session"))
    parser.add_argument("--run", choices=names, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU here: add --device cpu --tiny to see that everything runs")
    options.out.mkdir(parents=True, exist_ok=True)
    out = str(options.out.absolute())
    setting = Setting(out, options.device, options.tiny, options.reference)
    if options.run:
        work_through(next(part for part in PARTS if part.name == options.run), setting)
        return
    start = time.monotonic()
    for part in (part for part in PARTS if part.name in options.parts):
        left = options.budget - (time.monotonic() - start)
        print(
            f"[{time.monotonic() - start:5.0f} s] {part.name}: {run(part, setting, left)}",
            flush=True,
        )
        (options.out / "session.md").write_text(report(setting))
    print(f"written to {options.out / 'session.md'}")


def log_of(part: Part, setting: Setting) -> Log:
    return Log(setting.folder / f"{part.name}.jsonl")


def run(part: Part, setting: Setting, left: float) -> str:
    """A part in a process of its own, to its end or its limit; what came of it."""
    if log_of(part, setting).finished:
        return "finished by an earlier call"
    limit = min(part.limit, left)
    if limit < 5:
        return "no time left; the next call goes on here"
    command = [sys.executable, __file__, "--run", part.name, "--out", setting.out]
    command += ["--device", setting.device, *["--tiny"] * setting.tiny]
    if setting.reference is not None:
        command += ["--reference", setting.reference]
    with (setting.folder / f"{part.name}.log").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            code = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            rows = len(log_of(part, setting).rows)
            return f"stopped after {limit:.0f} s with {rows} rows; the next call goes on here"
    rows = len(log_of(part, setting).rows)
    return (
        f"{rows} rows"
        if code == 0
        else f"{rows} rows, then status {code}: {part.name}.log says why"
    )


def work_through(part: Part, setting: Setting) -> None:
    """The rows that are missing; a row that fails has its error in place of values."""
    log = log_of(part, setting)
    for name, measure in part.jobs(setting):
        if not log.wants(name):
            continue
        log.begin(name)
        try:
            values = measure()
        except Exception as error:  # the other rows are worth having
            values = {"error": f"{type(error).__name__}: {error}"[-400:]}
        log.add(name, values)
    log.finish()


def report(setting: Setting) -> str:
    """Markdown of all parts so far."""
    lines = ["# A session on one device", ""]
    for part in PARTS:
        log = log_of(part, setting)
        if log.rows:
            open_end = "" if log.finished else " (not finished)"
            lines += [f"## {part.name}{open_end}", "", part.title, "", *markdown(log.rows), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
