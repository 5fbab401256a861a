"""A worker process seen from the benchmark."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

# glibc gives large freed blocks back to the system at once; a forward pass then spends a good part
# of its time in page faults. "tuned" keeps them.
ALLOCATORS = {
    "default": {},
    "tuned": {
        "MALLOC_MMAP_THRESHOLD_": "33554432",
        "MALLOC_TRIM_THRESHOLD_": "10000000000",
        "MALLOC_TOP_PAD_": "67108864",
    },
}


class WorkerError(RuntimeError):
    """The worker answered with an error, or died (often: out of memory)."""


class Worker:
    """Sends requests to a worker and returns its answers."""

    def __init__(self, command: list[str], threads: int, allocator: str) -> None:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")},
            **ALLOCATORS[allocator],
            "OMP_NUM_THREADS": str(threads),
        }
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """One request.

        Raises:
            WorkerError: with the worker's traceback, if it lives.
        """
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self._answer()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"the process ended with status {self.process.wait()} during {do!r}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _answer(self) -> str:
        """The next line of JSON; packages print others while they are imported."""
        for line in self.process.stdout:
            if line.startswith("{"):
                return line
        return ""

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):  # a request that the dead never read
            self.process.stdin.close()
        self.process.stdout.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def worker_script(name: str) -> str:
    return str(Path(__file__).with_name(f"{name}_worker.py"))
