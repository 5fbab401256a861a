"""Jobs that are killed where results were lost: the same command again, and nothing is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kill.sample import SAMPLE


@pytest.fixture(scope="module")
def trials(tmp_path_factory) -> list[dict]:
    """All trials of the sample, made by one process that imports everything once."""
    work = tmp_path_factory.mktemp("kill")
    command = [sys.executable, str(Path(__file__).parent), "--sample", "--work", str(work)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode in (0, 1), done.stdout[-2000:] + done.stderr[-2000:]
    return [json.loads(line) for line in (work / "trials.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("job", [job for job, points in SAMPLE.items() if points])
def test_a_killed_job_ends_as_if_it_had_been_left_alone(trials, job):
    found = {trial["point"]: trial["problem"] for trial in trials if trial["job"] == job}
    assert len(found) == len(SAMPLE[job])
    assert set(found.values()) == {None}, found
