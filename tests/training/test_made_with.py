"""A run's folder tells whether a command belongs to it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from omegaconf import OmegaConf
from recipes import composed

from eqv2_plugin.training import made_with


class Frames(list):
    """Stands for a split."""

    config: ClassVar[dict] = {}


def frames(count: int = 3, shift: float = 0.0) -> SimpleNamespace:
    """A data set of one split."""
    made = [
        {
            "atomic_numbers": torch.tensor([29, 47]),
            "pos": torch.full((2, 3), float(i)),
            "cell": torch.eye(3)[None],
            "fixed": torch.zeros(2),
            "energy": torch.tensor([i + shift]),
        }
        for i in range(count)
    ]
    return SimpleNamespace(dataset_names=["mine.train"], datasets=[Frames(made)])


def described(*overrides: str, data: SimpleNamespace | None = None, **changes: object) -> dict:
    """Of eqv2_oc20 with these overrides."""
    config = OmegaConf.to_container(composed("eqv2_oc20", *overrides), resolve=True)
    config["job"].setdefault("seed", 0)
    return made_with.made_with(config, data or frames(), frames()) | changes


# What is said of a change, or None where it is none.
CHANGES = {
    ("epochs=2",): r"\(epochs: 4 -> 2\).*run_name=sample-[0-9a-f]{8}, or remove",
    ("batch_size=8",): r"\(batch_size: 4 -> 8\)",
    ("learning_rate=0.1",): r"\(learning_rate: 0.002 -> 0.1\)",
    ("seed=1",): r"\(seed: 0 -> 1\)",
    ("model.backbone.lmax=3",): r"\(model.backbone.lmax: 2 -> 3\)",
    ("energy_coefficient=3",): r"\(tasks.energy.loss_fn.coefficient: 2 -> 3\)",
    ("num_workers=2", "run_dir=elsewhere", "compile=true", "data_root=moved"): None,
    ("checkpoint_every_n_steps=3", "with_baselines=false"): None,
    ("runner.train_eval_unit.optimizer_fn.fused=false",): None,
}


@pytest.mark.parametrize(("overrides", "said"), CHANGES.items(), ids=lambda v: str(v)[:30])
def test_another_setting_is_told_by_its_name(overrides, said, tmp_path):
    folder = tmp_path / "sample"
    folder.mkdir()
    before, now = described(), described(*overrides)
    made_with.keep(folder, before)
    assert (before["hash"] == now["hash"]) == (said is None)
    if said is None:
        made_with.check(folder, now, "sample")
    else:
        with pytest.raises(ValueError, match=said):
            made_with.check(folder, now, "sample")


@pytest.mark.parametrize("data", [frames(4), frames(shift=0.5)], ids=["more", "other labels"])
def test_other_data_are_told(data, tmp_path):
    made_with.keep(tmp_path, described())
    with pytest.raises(ValueError, match=r"data.training.mine.train"):
        made_with.check(tmp_path, described(data=data), "mine")


def test_options_that_another_version_lacks_are_no_difference(tmp_path):
    now = described("+model.backbone.edge_chunk_size=100")
    made_with.keep(tmp_path, described(version="0.0"))
    made_with.check(tmp_path, now, "mine")
    (tmp_path / made_with.FILE).unlink()
    made_with.keep(tmp_path, described())
    with pytest.raises(ValueError, match="edge_chunk_size: None -> 100"):
        made_with.check(tmp_path, now, "mine")


def test_a_folder_of_an_earlier_version_passes_and_a_damaged_file_is_told(tmp_path):
    made_with.check(tmp_path, described(), "mine")
    (tmp_path / made_with.FILE).write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        made_with.check(tmp_path, described(), "mine")


def test_the_configuration_that_a_run_was_begun_with_is_kept(tmp_path):
    assert made_with.config_of(tmp_path) is None
    now = described()
    made_with.keep(tmp_path, now)
    assert OmegaConf.create(made_with.config_of(tmp_path)) == now["config"]
    assert json.loads((tmp_path / made_with.FILE).read_text())["hash"] == now["hash"]
