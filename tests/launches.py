"""``fairchem -c`` in processes of their own, forked from one that has imported everything once."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
CONFIGS = TESTS.parent / "configs"


@dataclass(frozen=True)
class Done:
    """How a process ended (minus the signal that killed it), and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def launch(
    config: str, overrides: Sequence[str], spawn: bool = False, **environment: object
) -> Done:
    """Run ``fairchem -c configs/CONFIG.yml OVERRIDES`` to its end.

    Several ranks and their loaders' workers are forked, too, or else spawned as fairchem does it:
    then each imports everything again, and what it works with is pickled.
    """
    return Launch(config, overrides, spawn, **environment).wait()


def launch_and_kill(
    config: str, overrides: Sequence[str], when: Callable[[], bool], **environment: object
) -> None:
    """The same, but killed (SIGKILL) with all its processes as soon as ``when`` says so."""
    job = Launch(config, overrides, **environment)
    deadline = time.monotonic() + 240
    while not when() and time.monotonic() < deadline:
        time.sleep(0.002)
    os.killpg(job.process, signal.SIGKILL)
    done = job.wait()
    assert done.returncode == -signal.SIGKILL, done.stderr[-4000:]


def launch_and_signal(
    config: str,
    overrides: Sequence[str],
    number: signal.Signals,
    when: Callable[[], bool],
    **environment: object,
) -> Done:
    """The same, but its process gets a signal as soon as ``when`` says so."""
    job = Launch(config, overrides, **environment)
    deadline = time.monotonic() + 240
    while not when() and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(job.process, number)
    return job.wait()


class Launch:
    """A job that runs, in a session of its own."""

    def __init__(
        self, config: str, overrides: Sequence[str], spawn: bool = False, **environment: object
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="launch")
        self._out, self._err = (Path(self._folder.name) / name for name in ("out", "err"))
        added = {"OMP_NUM_THREADS": "1", "EQV2_TRACEBACK": "1"} | {
            name: str(v) for name, v in environment.items()
        }
        self.process = _ask(
            arguments=["-c", str(CONFIGS / f"{config}.yml"), *overrides],
            out=str(self._out),
            err=str(self._err),
            environment={**os.environ, **added},
            spawn=spawn,
            folder=os.getcwd(),
        )

    def wait(self) -> Done:
        """To its end, or until it is taken for one that waits for ever."""
        code = _ask(wait=self.process)
        with self._folder:
            return Done(
                code, *(path.read_text(errors="replace") for path in (self._out, self._err))
            )


def _ask(**request: Any) -> int:
    server = _server()
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


@cache
def _server() -> subprocess.Popen:
    """The process that jobs of this process are forked from."""
    server = subprocess.Popen(
        [sys.executable, str(TESTS / "launch_server.py")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.stdin.close)
    return server
