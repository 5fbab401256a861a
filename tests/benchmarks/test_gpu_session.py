"""The session for a GPU: its smallest form runs on a CPU, and goes on where it stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from session.log import Log, markdown  # noqa: E402
from session.recipe import steps_per_second  # noqa: E402

PARTS = ["kernel_tests", "equalities", "comparison", "recipe", "precision", "relaxations",
         "profiles", "presets"]  # fmt: skip


def session(out: Path, *options: str) -> str:
    command = [sys.executable, str(BENCHMARKS / "gpu_session.py"), "--device", "cpu", "--tiny"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--out", str(out), *options], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_every_part_runs_and_a_second_call_has_nothing_left_to_do(tmp_path):
    session(tmp_path)
    files = {part: tmp_path / f"{part}.jsonl" for part in PARTS}
    logs = {part: Log(path) for part, path in files.items()}
    for part, log in logs.items():
        assert log.finished, (tmp_path / f"{part}.log").read_text()[-2000:]
        assert log.rows
        assert not [row for row in log.rows.values() if "error" in row], log.rows
    equal = logs["equalities"].rows
    assert equal["twice the same bits, training"]["same bits"]
    assert max(equal["float64, padded against unpadded"].values()) < 1e-12
    assert max(equal["float32, padded against unpadded"].values()) < 1e-6
    assert max(equal["float32, batches of 2 against alone"].values()) < 1e-5
    text = (tmp_path / "session.md").read_text()
    assert all(f"## {part}\n" in text for part in PARTS)
    assert session(tmp_path).count("finished by an earlier call") == len(PARTS)


@pytest.mark.slow
def test_what_does_not_fit_into_the_budget_is_left_to_the_next_call(tmp_path):
    assert "no time left" in session(tmp_path, "--budget", "1", "--parts", "equalities")
    assert not (tmp_path / "equalities.jsonl").exists()


def test_rows_survive_a_kill_and_what_hangs_is_given_up(tmp_path):
    path = tmp_path / "part.jsonl"
    log = Log(path)
    log.begin("one")
    log.add("one", {"ms": 1.5})
    log.begin("two")
    with path.open("a") as file:
        file.write('{"row": "two", "ms"')  # killed here
    log = Log(path)
    assert not log.wants("one")
    assert log.wants("two")
    log.begin("two")
    log = Log(path)
    assert not log.wants("two")
    assert log.rows == {"one": {"ms": 1.5}, "two": {"error": "did not end in 2 calls"}}
    log.finish()
    assert Log(path).finished
    assert len([json.loads(line) for line in path.read_text().splitlines() if line[-1] == "}"]) == 6
    assert markdown(log.rows)[2] == "| one | 1.5 |  |"


def test_steps_per_second_are_those_of_the_loop_and_of_its_clock():
    text = (
        " 50% 354/708 [00:40<00:40, 8.8it/s, lr=1e-3, samples/s=40.0]\n"
        "100% 708/708 [01:28<00:00, 8.0it/s, lr=1e-3, samples/s=44.0]\n"
    )
    found = steps_per_second(text, 4)
    assert found == pytest.approx({"steps per second": 10.5, "with validations": 708 / 88})
    assert steps_per_second("", 4) == {}
