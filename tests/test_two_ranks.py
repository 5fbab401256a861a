"""Two ranks on one node, with loader workers where the job has them, leave what one rank leaves.

Each through ``fairchem -c``, with the jobs of `kill.jobs`: parts, structures and systems are
independent of each other, so their results must be the same bits.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
# What each process keeps for itself, in files that bear its number.
OWN = ("relaxed.", "adsorbml_")


@pytest.fixture(scope="module")
def jobs():
    """`kill.jobs`, which needs the inputs of other folders."""
    folders = [str(TESTS / "evaluation" / name) for name in ("adsorbml", "relaxation")]
    sys.path[:0] = folders
    from kill import jobs

    yield jobs
    for folder in folders:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def inputs(jobs, tmp_path_factory) -> Path:
    return jobs.write_inputs(tmp_path_factory.mktemp("ranks") / "inputs")


@pytest.fixture
def both(jobs, inputs, tmp_path):
    """Run a job on one rank and on two; returns what each left."""
    from kill.results import results

    def run(name: str, *overrides: str, workers: bool = True) -> list[dict]:
        config, of_job = jobs.JOBS[name].run.args
        two = ["job.scheduler.ranks_per_node=2", *(["num_workers=2"] if workers else [])]
        left = []
        # Names of the same length, so that texts break alike.
        for folder, more in ((tmp_path / "one", []), (tmp_path / "two", two)):
            arguments = [*of_job(inputs), *overrides, *more]
            # The last of two settings counts.
            arguments = list({text.split("=")[0]: text for text in arguments}.values())
            start = [sys.executable, "-c", "from fairchem.core._cli import main; main()"]
            path = jobs.ROOT / "configs" / f"{config}.yml"
            place = [f"run_dir={folder}", "run_name=job", "job.device_type=CPU"]
            done = subprocess.run(
                [*start, "-c", str(path), *place, *arguments],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                timeout=600,
            )
            assert done.returncode == 0, done.stderr[-4000:]
            found = results(folder, folder / jobs.JOBS[name].results)
            left.append({k: v for k, v in found.items() if not k.startswith(OWN)})
        return left

    return run


def test_s2ef_predictions(both):
    # One split: workers, which import everything, are started for each.
    one, two = both(
        "prediction", *(f"~test_data.splits.ood_{name}" for name in ("ads", "cat", "both"))
    )
    assert one == two
    assert {"id.npz", "metrics.json", "parts/id/00001.npz"} < one.keys()


def test_relaxations(both):
    one, two = both("relaxation", workers=False)
    assert one.keys() == two.keys()
    assert {"is2re_submission.npz", "is2rs_submission.npz", "metrics.json"} < one.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_adsorbml(both):
    one, two = both("adsorbml", workers=False)
    assert one.keys() == two.keys()
    assert sum(name.startswith("systems/") for name in one) == 2
    assert [name for name in one if one[name] != two[name]] == []
