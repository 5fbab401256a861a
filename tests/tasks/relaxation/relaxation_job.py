"""Relaxation jobs as `fairchem -c` starts them, to their end or to be killed."""

from __future__ import annotations

from pathlib import Path

from launches import launch, launch_and_kill

CONFIG = "relax_is2re_oc20"


def arguments(folder: Path, *overrides: str) -> list[str]:
    """Overrides; the job goes to ``folder/job``."""
    return [f"run_dir={folder}", "run_name=job", "job.device_type=CPU", *overrides]


def run(folder: Path, *overrides: str) -> str:
    """Run to the end; returns what was printed."""
    done = launch(CONFIG, arguments(folder, *overrides))
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def run_and_kill(folder: Path, finished: int, *overrides: str) -> None:
    """Start a job and kill it (SIGKILL) once so many structures are finished."""
    store = folder / "job" / "results" / "relaxed.0-of-1.jsonl"

    def enough() -> bool:
        return store.exists() and store.read_bytes().count(b"\n") > finished

    launch_and_kill(CONFIG, arguments(folder, *overrides), enough)
