"""Mistakes on the command line of ``fairchem -c`` are one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from fairchem.core._cli import get_hydra_config_from_yaml

from eqv2_plugin.common.launcher import sentence_of

CONFIGS = Path(__file__).parents[1] / "configs"

MISTAKES = [
    ("eqv2_oc20", "epoch=2", "the recipe has no key epoch; did you mean 'epochs'?"),
    ("eqv2_oc20", "model.backbone.lmaxx=2", "the recipe has no key model.backbone.lmaxx"),
    ("eqv2_oc20", "scale=oc20_3m", "there is no scale=oc20_3m; did you mean 'oc20_2m'?"),
    ("eqv2_oc20", "head=direct", "no key head; did you mean 'heads'?"),
    ("eqv2_oc20", "epochs=[1", "'epochs=[1' is not read as KEY=VALUE"),
    ("eqv2_train", "epochs=1", "the recipe needs a value for train: give train=VALUE"),
    ("eqv2_train", "train=gone.extxyz", "FileNotFoundError: gone.extxyz does not exist"),
    ("eqv2_train", "train='*.none'", "no file fits this pattern"),
    ("eqv2_finetune", "references=pbe", "unknown element references 'pbe'"),
    ("eqv2_dens_oc20", "force_scale=-1", "force_scale must be a positive number"),
    ("eqv2_oc20", "+epoch=2", "unused keys in the config: {'epoch'}"),
    ("eqv2_oc20", "batch_size=0", "batch_size=0 must be a whole number of structures, 1 or more"),
    ("eqv2_finetune", "checkpoint=gone.pt", "no checkpoint to start from: gone.pt is no file"),
]


@pytest.mark.parametrize(("recipe", "mistake", "sentence"), MISTAKES)
def test_a_mistake_is_one_sentence(recipe, mistake, sentence, tmp_path):
    overrides = [f"run_dir={tmp_path}", mistake]
    with pytest.raises(Exception) as caught:  # noqa: PT011  # of many kinds
        get_hydra_config_from_yaml(str(CONFIGS / f"{recipe}.yml"), overrides)
    assert sentence in sentence_of(caught.value)


def test_faults_of_the_program_keep_their_traceback():
    assert sentence_of(TypeError("unsupported operand")) is None
    assert sentence_of(ValueError("raised elsewhere")) is None
