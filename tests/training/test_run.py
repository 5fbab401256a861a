"""Whole training runs in processes of their own, as a user starts them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

CONFIG = Path(__file__).parents[2] / "configs" / "eqv2_oc20.yml"
# A tiny model on 24 frames, with dropout: 6 batches of 4, ten epochs.
TINY = [
    "model.backbone.sphere_channels=8", "model.backbone.attn_hidden_channels=8",
    "model.backbone.attn_alpha_channels=4", "model.backbone.attn_value_channels=4",
    "model.backbone.ffn_hidden_channels=8", "model.backbone.edge_channels=8",
    "model.backbone.num_layers=1", "model.backbone.max_neighbors=8",
    "model.backbone.alpha_drop=0.1", "model.backbone.drop_path_rate=0.1",
    "+data.train_splits.train.first_n=24", "+data.val_splits.val_id.first_n=8",
    "+data.val_splits.val_ood.first_n=8", "data.train_repeats=1", "epochs=10",
    "checkpoint_every_n_steps=7", "job.device_type=CPU",
]  # fmt: skip


def command(folder: Path, *overrides: str) -> list[str]:
    fairchem = "from fairchem.core._cli import main; main()"
    start = [sys.executable, "-c", fairchem, "-c", str(CONFIG)]
    return [*start, f"run_dir={folder}", *TINY, *overrides]


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "EQV2_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def run(folder: Path, cache: Path, *overrides: str) -> str:
    done = subprocess.run(
        command(folder, *overrides),
        env=environment(cache),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("runs")
    return folder / "sample", run(folder, cache)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / "results" / "inference_ckpt.pt"
    # Our own file, written a moment ago; it holds fairchem's checkpoint class.
    checkpoint = torch.load(path, weights_only=False)
    parts = {"model": checkpoint.model_state_dict, "ema": checkpoint.ema_state_dict}
    return {f"{p}.{k}": torch.as_tensor(v) for p, d in parts.items() for k, v in d.items()}


def history(folder: Path) -> list[dict]:
    lines = (folder / "results" / "history.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_leaves_checkpoint_metrics_and_plots(finished):
    folder, out = finished
    results = folder / "results"
    for name in ("learning_curve", "parity_energy", "parity_forces"):
        assert (results / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["steps"] == 60
    assert set(metrics["splits"]) == {"val_id", "val_ood"}
    assert metrics["baselines"]["val_ood"]["nearest_frame_forces_mae_meV_per_A"] is None
    assert metrics["at_start"]["val_id"]["frames"] == 8
    assert [record["step"] for record in history(folder)] == list(range(0, 61, 6))
    for said in ("zero forces", "from_model_checkpoint", "energy reference:", "parameters:"):
        assert said in out


def test_the_final_metrics_are_those_of_the_last_validation(finished):
    folder, _ = finished
    final = json.loads((folder / "results" / "metrics.json").read_text())["splits"]
    for split, values in history(folder)[-1]["splits"].items():
        for key, value in values.items():
            assert final[split][key] == pytest.approx(value, rel=1e-4)


def test_the_same_command_again_says_that_the_run_is_finished(finished, cache):
    folder, _ = finished
    before = (folder / "results" / "inference_ckpt.pt").stat().st_mtime_ns
    out = run(folder.parent, cache)
    assert "This run is finished" in out
    assert "run_name=NAME" in out
    assert (folder / "results" / "inference_ckpt.pt").stat().st_mtime_ns == before


def test_a_killed_run_resumes_and_ends_with_the_same_bits(finished, cache, tmp_path):
    whole, _ = finished
    process = subprocess.Popen(
        command(tmp_path),
        env=environment(cache),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    checkpoint = tmp_path / "sample" / "checkpoints" / "step_14" / "inference_ckpt.pt"
    deadline = time.monotonic() + 240
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert checkpoint.exists()
    assert not (tmp_path / "sample" / "results" / "metrics.json").exists()
    out = run(tmp_path, cache)
    assert "Resuming the run" in out
    assert "from step_" in out
    expected, found = weights(whole), weights(tmp_path / "sample")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    recorded = [(r["step"], r["splits"]) for r in history(tmp_path / "sample")]
    assert recorded == [(r["step"], r["splits"]) for r in history(whole)]


def test_another_model_in_the_same_folder_is_refused(cache, tmp_path):
    run(tmp_path, cache, "epochs=2")
    (tmp_path / "sample" / "checkpoints" / "final" / ".metadata").unlink()
    done = subprocess.run(
        command(tmp_path, "model.backbone.lmax=3"),
        env=environment(cache),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode != 0
    assert "backbone.lmax: 2 -> 3" in done.stderr


def test_two_ranks_train_like_one(cache, tmp_path):
    # Without dropout: ranks draw different masks.
    quiet = ("model.backbone.alpha_drop=0.0", "model.backbone.drop_path_rate=0.0", "epochs=3")
    run(tmp_path / "one", cache, *quiet)
    run(tmp_path / "two", cache, *quiet, "job.scheduler.ranks_per_node=2")
    one, two = history(tmp_path / "one" / "sample"), history(tmp_path / "two" / "sample")
    assert [r["step"] for r in one] == [r["step"] for r in two] == [0, 6, 12, 18]
    for first, second in zip(one, two, strict=True):
        for kind in ("losses", "splits"):
            flat = torch.tensor([_numbers(r.get(kind, {})) for r in (first, second)])
            torch.testing.assert_close(flat[0], flat[1], rtol=2e-4, atol=1e-6)


def _numbers(value) -> list[float]:
    if isinstance(value, dict):
        return [number for key in sorted(value) for number in _numbers(value[key])]
    return [float(value)]
