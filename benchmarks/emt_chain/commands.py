"""Commands of the package, as a user gives them, each in a process of one thread."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CONFIGS = Path(__file__).parents[2] / "configs"
_MAINS = {
    "fairchem": "from fairchem.core._cli import main; main()",
    "eqv2": "import sys; from eqv2_plugin.cli import main; sys.exit(main())",
}
# The allocator keeps its memory: small models otherwise spend a seventh of a step in page faults.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_TOP_PAD_": "67108864",
}


def run_command(name: str, *arguments: str | Path, log: Path) -> None:
    """Run ``fairchem`` or ``eqv2``; its output goes to the end of ``log``.

    Raises:
        RuntimeError: the command failed; its last lines are in the message.
    """
    command = [sys.executable, "-c", _MAINS[name], *map(str, arguments)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        done = subprocess.run(
            command, env={**os.environ, **_ENVIRONMENT}, stdout=file, stderr=file, check=False
        )
    if done.returncode:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        raise RuntimeError(f"{name} {' '.join(command[3:])}\nfailed, see {log}:\n{tail}")
