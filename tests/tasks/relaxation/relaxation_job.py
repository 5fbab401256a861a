"""Starting relaxation jobs as `fairchem -c` does, here or in a process to kill."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from fairchem.core._cli import main

CONFIG = Path(__file__).parents[3] / "configs" / "relax_is2re_oc20.yml"


def arguments(folder: Path, *overrides: str) -> list[str]:
    """Overrides; the job goes to ``folder/job``."""
    return [f"run_dir={folder}", "run_name=job", "job.device_type=CPU", *overrides]


def run(folder: Path, *overrides: str) -> str:
    """Run to the end in this process; returns what was printed."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            main(argparse.Namespace(config=str(CONFIG)), arguments(folder, *overrides))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return printed.getvalue()


def run_and_kill(folder: Path, finished: int, *overrides: str) -> None:
    """Start a job and kill it (SIGKILL) once so many structures are finished."""
    fairchem = "from fairchem.core._cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", fairchem, "-c", str(CONFIG), *arguments(folder, *overrides)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    store = folder / "job" / "results" / "relaxed.0-of-1.jsonl"
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        if store.exists() and store.read_bytes().count(b"\n") > finished:
            break
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
