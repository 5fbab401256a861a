"""The kernels' tests on the device, and the machine's name."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from compare.report import processor
from session.setting import Jobs, Setting

_TESTS = Path(__file__).parents[2] / "tests" / "kernels"


def jobs(setting: Setting) -> Jobs:
    """Versions, then one row per file of tests."""
    yield "machine", partial(machine, setting.device)
    if setting.tiny:
        yield "test_segments.py", partial(run_tests, "test_segments.py", setting.device)
        return
    for file in ("cases_triton.py", "test_fused.py", "test_segments.py", "test_tables.py"):
        yield file, partial(run_tests, file, setting.device)


def machine(device: str) -> dict[str, Any]:
    """Names and versions."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    if importlib.util.find_spec("triton") is not None:
        import triton

        found["triton"] = triton.__version__
    if device == "cpu":
        return {"device": processor(), **found}
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "GB": round(properties.total_memory / 2**30),
        "capability": f"{properties.major}.{properties.minor}",
        **found,
    }


def run_tests(file: str, device: str) -> dict[str, Any]:
    """How many passed, and the names of those that did not."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    if device == "cuda":
        environment |= {"TRITON_INTERPRET": "0", "EQV2_TEST_KERNELS": "triton"}
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q"]
    command += ["-p", "no:cacheprovider", "-rfE"]
    if importlib.util.find_spec("xdist") is not None and device == "cuda":
        command += ["-n", "6"]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, str(_TESTS / file)],
        env=environment,
        cwd=_TESTS.parents[1],
        capture_output=True,
        text=True,
    )
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|error)", done.stdout)}
    failed = re.findall(r"^(?:FAILED|ERROR) \S*::(\S+)", done.stdout, re.MULTILINE)
    found: dict[str, Any] = {"passed": counts.get("passed", 0), "failed": len(failed)}
    found["seconds"] = time.perf_counter() - start
    if failed:
        found["names"] = ", ".join(failed[:8])
    if not counts:
        found["error"] = (done.stdout + done.stderr)[-300:]
    return found
