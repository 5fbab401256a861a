"""The configs as `fairchem -c` reads them, on a tiny model and input."""

from __future__ import annotations

from pathlib import Path

import hydra
import numpy as np
import pytest
from adsorbml_inputs import table, write_model, write_slab_input
from fairchem.core._cli import get_hydra_config_from_yaml
from fairchem.core.components.benchmark import AdsorbMLReducer
from recipes import CONFIGS, composed

from eqv2_plugin.tasks.adsorbml.results import load_results


@pytest.fixture
def overrides(tmp_path):
    model = write_model(tmp_path / "tiny.pt")
    data = write_slab_input(tmp_path / "in.pkl", ["*CO"], Pt111_CO=-1.25)
    return [f"checkpoint={model}", f"input={data}"]


def start(config: str, overrides: list[str]) -> Path:
    """As fairchem's local launcher does it; returns the results folder."""
    read = get_hydra_config_from_yaml(str(CONFIGS / config), overrides)
    runner = hydra.utils.instantiate(read.runner)
    runner.job_config = read.job
    runner.load_state(None)
    runner.run()
    return Path(read.job.metadata.results_dir)


def test_fairchems_own_runner_takes_our_checkpoint_and_input(tmp_path, overrides):
    """Placements follow from the seed of the config."""
    changes = [*overrides, "num_placements=1", "runner.steps=2"]
    energies = []
    for seed, name in ((0, "first"), (0, "again"), (1, "other")):
        place = [f"job.run_dir={tmp_path}", f"job.timestamp_id={name}", f"seed={seed}"]
        energies.append(table(start("adsorbml.yml", [*changes, *place]))["energy"]["0"])
    assert energies[0] == energies[1] != energies[2]


def test_the_batched_config_runs_and_fairchems_reducer_reads_its_table(tmp_path, overrides):
    changes = ["placements.random_site_heuristic_placement=1", "placements.heuristic=1"]
    place = [f"run_dir={tmp_path}", "run_name=mine", "relaxation.steps=2"]
    results = start("adsorbml_batched.yml", [*overrides, *changes, *place])
    assert results == tmp_path / "mine" / "results"
    found = load_results(results)[0]
    assert [c.id for c in found.candidates] == [
        "heuristic-0000",
        "random_site_heuristic_placement-0000",
    ]
    import pandas as pd

    lines = pd.read_json(results / "adsorbml_1-0.json.gz")
    metrics = AdsorbMLReducer("any", target_data_key="energy").compute_metrics(lines, "mine")
    near = abs(found.ranked()[0].energy + 1.25) <= 0.1
    assert metrics["success_rate"].item() == float(near)
    assert metrics["num_anomalies"].item() == sum(found.anomaly_counts().values())


def test_both_configs_relax_as_the_paper_says():
    given = "checkpoint=x", "input=y"
    ours, theirs = (composed(name, *given).runner for name in ("adsorbml_batched", "adsorbml"))
    assert (ours.relaxation.fmax, ours.relaxation.steps) == (0.02, 300)
    assert (theirs.fmax, theirs.steps) == (0.02, 300)
    assert ours.adsorption_energy_model is theirs.adsorption_energy_model is True
    assert sum(ours.placements.values()) == theirs.num_placements
    assert np.isclose(ours.seed, theirs.calculator.predict_unit.seed)
