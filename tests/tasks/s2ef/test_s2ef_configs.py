"""``fairchem -c configs/predict_s2ef_*.yml`` runs as documented."""

from __future__ import annotations

from pathlib import Path

import pytest
from fairchem.core.scripts.make_submission_file import SPLITS
from launches import launch
from omegaconf import OmegaConf
from prediction_inputs import write_model
from recipes import composed

from eqv2_plugin import cli
from eqv2_plugin.common.files import read_npz
from eqv2_plugin.tasks.splits import split_configs

FOLDERS = Path(__file__).parents[3] / "src" / "eqv2_plugin" / "configs" / "test_data"
FEW = ["structures_per_part=3", "atoms_per_batch=100", "num_workers=0", "job.device_type=CPU"]


def config_of(dataset: str, *overrides: str):
    return composed(f"predict_s2ef_{dataset}", "checkpoint=model.pt", *overrides)


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
    found = split_configs(OmegaConf.to_container(config.runner.data, resolve=True))
    assert found["ood_ads"] == {"format": "ase_db", "src": "/d/mine"}


@pytest.mark.slow
def test_the_documented_command_leaves_a_submission_that_passes(tmp_path, capsys):
    model = write_model(tmp_path / "model.pt")
    few = [f"+test_data.splits.{split}.first_n=8" for split in SPLITS["OC22"]]
    place = [f"run_dir={tmp_path}", "test_data=oc22_sample", f"checkpoint={model}"]
    done = launch("predict_s2ef_oc22", [*place, *few, *FEW], EQV2_CACHE=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "submission of all splits" in done.stdout
    assert "energies of this model: the checkpoint does not say" in done.stdout
    submission = tmp_path / "oc22_sample" / "results" / "submission.npz"
    assert len(read_npz(submission)["ood_ids"]) == 8
    assert cli.main(["submission", "check", str(submission)]) == 0
    assert "verdict: ok" in capsys.readouterr().out
