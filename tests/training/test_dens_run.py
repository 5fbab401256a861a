"""Whole training runs with DeNS."""

from __future__ import annotations

import json
import re

import pytest
from training_runs import assert_same_weights, history, run, run_and_kill

pytestmark = pytest.mark.slow
DENS = "eqv2_dens_oc20"


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("runs")
    return folder / "sample", run(folder, cache, config=DENS)


def test_a_run_reports_how_denoising_goes(finished):
    folder, out = finished
    report = json.loads((folder / "results" / "metrics.json").read_text())["denoising"]
    assert set(report) == {
        "noise_mae_sigma", "noise_rmse_sigma", "noise_cosine", "energy_mae_corrupted_meV",
        "energy_mae_clean_meV", "forces_mae_uncorrupted_meV_per_A", "corrupted_fraction_atoms",
        "corrupted_fraction_structures", "noise_mae_encoded_sigma", "noise_mae_unencoded_sigma",
    }  # fmt: skip
    everywhere = [record["denoising"] for record in history(folder)[1:]]
    # 96 draws with p = 0.25: five standard deviations.
    mean = sum(r["corrupted_fraction_structures"] for r in everywhere) / len(everywhere)
    assert mean == pytest.approx(0.25, abs=5 * (0.1875 / 96) ** 0.5)
    assert "noise_forces" in history(folder)[-1]["losses"]
    assert "noise_cosine" in out
    assert re.search(r"noise MAE on validation frames [\d.]+ sigma with encoded forces", out)


def test_a_killed_run_resumes_and_ends_with_the_same_bits(finished, cache, tmp_path):
    whole, _ = finished
    run_and_kill(tmp_path, cache, config=DENS, step=14)
    assert "Resuming the run" in run(tmp_path, cache, config=DENS)
    assert_same_weights(whole, tmp_path / "sample")
    # Means of training losses and of denoising since the last validation, too.
    assert history(tmp_path / "sample") == history(whole)


def test_conservative_forces_train_with_denoising(cache, tmp_path):
    run(tmp_path, cache, "epochs=1", "heads=conservative", config=DENS)
    record = history(tmp_path / "sample")[-1]
    assert set(record["losses"]) == {"energy", "forces", "noise_forces"}
    assert all(value > 0 for value in record["losses"].values())
