"""Two ranks on one node, with loader workers where the job has them, leave what one rank leaves.

Each through ``fairchem -c``, with the jobs of `kill.jobs`: parts, structures and systems are
independent of each other, so their results must be the same bits; gradients are means over ranks,
whose sums have another order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kill.jobs import JOBS, write_inputs
from kill.results import results
from launches import launch

pytestmark = pytest.mark.slow
# Masks and noise are drawn per rank.
QUIET = ["model.backbone.alpha_drop=0.0", "model.backbone.drop_path_rate=0.0"]
# What each process keeps for itself, in files that bear its number.
OWN = ("relaxed.", "adsorbml_", "finished.json")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("ranks") / "inputs")


@pytest.fixture
def both(inputs, tmp_path):
    """Run a job on one rank and on two; returns what each left."""

    def run(name: str, *overrides: str, workers: int = 0, spawn: bool = False) -> list[dict]:
        config, of_job = JOBS[name].run.args
        two = ["job.scheduler.ranks_per_node=2", *([f"num_workers={workers}"] * (workers > 0))]
        left = []
        # Names of the same length, so that texts break alike.
        for folder, more in ((tmp_path / "one", []), (tmp_path / "two", two)):
            place = [f"run_dir={folder}", "run_name=job", "job.device_type=CPU"]
            settings = [*place, *of_job(inputs), *overrides, *more]
            # The last of two settings counts.
            settings = list({text.split("=")[0]: text for text in settings}.values())
            done = launch(config, settings, spawn)
            assert done.returncode == 0, done.stderr[-4000:]
            found = results(folder, folder / JOBS[name].results)
            left.append({k: v for k, v in found.items() if not k.startswith(OWN)})
        return left

    return run


def numbers(value) -> list[float]:
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in numbers(value[key])]
    if isinstance(value, list):
        return [number for inner in value for number in numbers(inner)]
    return [float(value)] if isinstance(value, int | float) else []


def check_training(one: dict, two: dict) -> None:
    assert one.keys() == two.keys()
    assert [r["step"] for r in one["history.jsonl"]] == [r["step"] for r in two["history.jsonl"]]
    assert len(one["history.jsonl"]) == 3
    for name in ("history.jsonl", "metrics.json"):
        first, second = (np.array(numbers(left[name])) for left in (one, two))
        np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-6)
    states = [left["inference_ckpt.pt"]["ema_state_dict"] for left in (one, two)]
    for name, (_, value) in states[0].items():
        first, second = torch.tensor(value), torch.tensor(states[1][name][1])
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)


def test_training(both):
    """With ranks and workers that are spawned: all that they work with can be pickled."""
    check_training(*both("training", *QUIET, workers=1, spawn=True))


def test_training_with_denoising(both):
    # All structures corrupted with no noise to speak of: what ranks draw does not matter.
    clean = ["denoising.probability=1.0", "denoising.corruption_ratio=1.0", "denoising.sigma=1e-7"]
    one, two = both("dens", *QUIET, *clean, "denoising.coefficient=0.0", workers=2)
    for left in (one, two):
        for record in left["history.jsonl"]:
            # Means over what was drawn.
            denoising = record.pop("denoising", {})
            assert denoising.get("corrupted_fraction_structures", 1.0) == 1.0
            record.get("losses", {}).pop("noise_forces", None)
        left["metrics.json"].pop("denoising")
    check_training(one, two)


def test_s2ef_predictions(both):
    one, two = both("prediction", workers=2)
    assert one == two
    assert {"id.npz", "metrics.json", "parts/id/00001.npz"} < one.keys()


def test_relaxations(both):
    one, two = both("relaxation")
    assert one.keys() == two.keys()
    assert {"is2re_submission.npz", "is2rs_submission.npz", "metrics.json"} < one.keys()
    assert [name for name in one if one[name] != two[name]] == []


def test_adsorbml(both):
    one, two = both("adsorbml")
    assert one.keys() == two.keys()
    assert sum(name.startswith("systems/") for name in one) == 2
    assert [name for name in one if one[name] != two[name]] == []
