"""Whole training runs in processes of their own, as a user starts them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from training_runs import assert_same_weights, attempt, history, run, run_and_kill

from eqv2_plugin.common.locks import folder_lock

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("runs")
    return folder / "sample", run(folder, cache)


def test_a_run_leaves_checkpoint_metrics_and_plots(finished):
    folder, out = finished
    results = folder / "results"
    for name in ("learning_curve", "parity_energy", "parity_forces"):
        assert (results / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["steps"] == 24
    assert set(metrics["splits"]) == {"val_id", "val_ood"}
    assert metrics["baselines"]["val_ood"]["nearest_frame_forces_mae_meV_per_A"] is None
    assert metrics["at_start"]["val_id"]["frames"] == 8
    assert [record["step"] for record in history(folder)] == list(range(0, 25, 6))
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


def test_a_finished_run_is_finished_for_its_own_settings_only(finished, cache):
    folder, _ = finished
    config = (folder / "canonical_config.yaml").read_text()
    done = attempt(folder.parent, cache, "epochs=2", "batch_size=8")
    assert done.returncode != 0
    assert "holds a run with other settings (epochs: 4 -> 2; batch_size: 4 -> 8)" in done.stderr
    assert "run_name=sample-" in done.stderr
    assert (folder / "canonical_config.yaml").read_text() == config
    assert "This run is finished" in run(folder.parent, cache, "with_baselines=false")


@pytest.fixture(scope="module")
def killed(tmp_path_factory, cache) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    run_and_kill(folder, cache, config="eqv2_oc20", step=14)
    return folder


def test_another_model_in_the_folder_of_an_unfinished_run_is_refused(killed, cache):
    done = attempt(killed, cache, "model.backbone.lmax=3")
    assert done.returncode != 0
    assert "backbone.lmax: 2 -> 3" in done.stderr


def test_a_killed_run_resumes_and_ends_with_the_same_bits(finished, killed, cache, tmp_path):
    whole, _ = finished
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    out = run(tmp_path, cache)
    assert "Resuming the run" in out
    assert "from step_" in out
    assert_same_weights(whole, tmp_path / "sample")
    # Means of training losses since the last validation, too.
    assert history(tmp_path / "sample") == history(whole)


def test_a_run_that_lost_its_results_writes_them_again_without_training(finished, cache, tmp_path):
    whole, _ = finished
    shutil.copytree(whole.parent, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "sample"
    # As kills and full disks left them.
    (folder / "results" / "finished.json").unlink()
    (folder / "results" / "metrics.json").write_text("")
    (folder / "checkpoints" / "final" / "inference_ckpt.pt").write_bytes(b"")
    with folder_lock(folder):
        refused = attempt(tmp_path, cache)
    assert refused.returncode != 0
    assert "another run is writing to" in refused.stderr
    out = run(tmp_path, cache)
    assert "is trained: its results are written now" in out
    assert_same_weights(whole, folder)
    assert history(folder) == history(whole)
    reports = [json.loads((f / "results" / "metrics.json").read_text()) for f in (whole, folder)]
    for report in reports:
        report["facts"].pop("run folder")
    assert reports[0] == reports[1]
    for name in ("learning_curve", "parity_energy", "parity_forces"):
        pictures = [(f / "results" / f"{name}.png").read_bytes() for f in (whole, folder)]
        assert pictures[0] == pictures[1]
    assert (folder / "results" / "finished.json").exists()
