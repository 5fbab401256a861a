"""``fairchem -c configs/predict_s2ef_*.yml`` runs as documented."""

from __future__ import annotations

import argparse
import multiprocessing
import os
from pathlib import Path

import pytest
from fairchem.core._cli import get_hydra_config_from_yaml
from fairchem.core._cli import main as fairchem
from fairchem.core.scripts.make_submission_file import SPLITS
from omegaconf import OmegaConf
from prediction_inputs import options, predict, results, write_data, write_model

from eqv2_plugin import cli
from eqv2_plugin.common.files import read_npz
from eqv2_plugin.data.sample import load_sample
from eqv2_plugin.tasks.splits import split_configs

CONFIGS = Path(__file__).parents[3] / "configs"
FOLDERS = Path(__file__).parents[3] / "src" / "eqv2_plugin" / "configs" / "test_data"
FEW = ["structures_per_part=3", "atoms_per_batch=100", "num_workers=0", "job.device_type=CPU"]


def config_of(dataset: str, *overrides: str):
    path = CONFIGS / f"predict_s2ef_{dataset}.yml"
    return get_hydra_config_from_yaml(str(path), ["checkpoint=model.pt", *overrides])


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDERS.glob("*.yaml")))
def test_every_data_set_has_the_splits_of_its_submission(name):
    dataset = name.split("_")[0]
    config = config_of(dataset, f"test_data={name}", "data_root=/somewhere")
    assert list(config.runner.data.splits) == SPLITS[dataset.upper()]
    assert config.runner.dataset == dataset
    assert config.runner.task_name in (dataset, None)
    assert config.job.timestamp_id == name
    sources = {s: c["src"] for s, c in split_configs(config.runner.data).items()}
    assert all(path.startswith("/somewhere/") for path in sources.values())


@pytest.mark.parametrize("dataset", ["oc20", "oc22"])
def test_data_are_asked_for_and_the_sample_is_there(dataset):
    config = config_of(dataset)
    with pytest.raises(FileNotFoundError, match=r"set data_root=FOLDER\. It must hold"):
        split_configs(config.runner.data)
    config = config_of(dataset, f"test_data={dataset}_sample")
    assert "embedded:oc20_sample/val_id" in str(split_configs(config.runner.data))


def test_data_in_other_folders_and_forms_are_named_by_overrides():
    config = config_of("oc20", "data_root=/d", "test_data.splits.ood_ads.src=mine",
                       "test_data.reader.format=ase_db")  # fmt: skip
    found = split_configs(OmegaConf.to_container(config.runner.data))
    assert found["ood_ads"] == {"format": "ase_db", "src": "/d/mine"}


def run_fairchem(output: Path, config: Path, overrides: list[str]) -> None:
    """``fairchem -c``, in a process that has its modules already."""
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    fairchem(argparse.Namespace(config=str(config)), overrides)


def run(folder: Path, *overrides: str, dataset: str) -> str:
    """Run a config on the sample to its end; returns what was printed."""
    few = [f"+test_data.splits.{split}.first_n=8" for split in SPLITS[dataset.upper()]]
    sample = [f"test_data={dataset}_sample", f"run_dir={folder}", *few, *FEW, *overrides]
    output = folder.with_suffix(".log")
    process = multiprocessing.get_context("fork").Process(
        target=run_fairchem, args=(output, CONFIGS / f"predict_s2ef_{dataset}.yml", sample)
    )
    process.start()
    process.join(300)
    assert process.exitcode == 0, output.read_text()[-3000:]
    return output.read_text()


def test_two_ranks_leave_what_one_process_leaves_and_the_submission_passes(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("EQV2_CACHE", str(tmp_path))
    # fairchem's launcher starts new processes.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    model = write_model(tmp_path / "model.pt")
    two = (f"checkpoint={model}", "job.scheduler.ranks_per_node=2")
    printed = run(tmp_path / "ranks", *two, dataset="oc22")
    assert "submission of all splits" in printed
    assert "energies of this model: the checkpoint does not say" in printed
    found = tmp_path / "ranks" / "oc22_sample" / "results"
    root = found.parents[2]
    for split, folder in {"id": "val_id", "ood": "val_ood"}.items():
        write_data(root / split, load_sample("oc20_sample", folder)[:8])
    made = options(root, model, {"id": {"src": "id"}, "ood": {"src": "ood"}})
    changes = {"dataset": "oc22", "atoms_per_batch": 100}
    predict(tmp_path / "one", made | changes)
    for name in ("id.npz", "ood.npz", "submission.npz"):
        assert (found / name).read_bytes() == results(tmp_path / "one")[name]
    assert len(read_npz(found / "submission.npz")["ood_ids"]) == 8
    assert cli.main(["submission", "check", str(found / "submission.npz")]) == 0
    assert "verdict: ok" in capsys.readouterr().out
