"""The scale of encoded forces stays with the weights that were trained with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from fairchem.core._cli import get_hydra_config_from_yaml
from finetuning_inputs import write_start
from helpers import DIRECT_HEADS

from eqv2_plugin import cli
from eqv2_plugin.checkpoints.door import export_native
from eqv2_plugin.training.finetuning import starting_model
from eqv2_plugin.training.runner import check_same_model

CONFIGS = Path(__file__).parents[2] / "configs"
HEADS = {**DIRECT_HEADS, "noise_forces": {"module": "eqv2_plugin.heads.forces.NoiseHead"}}


def test_fine_tuning_keeps_the_scale_of_the_checkpoint(tmp_path):
    scaled, old, plain = (tmp_path / f"{name}.pt" for name in ("scaled", "old", "plain"))
    write_start(scaled, HEADS, force_encoding=True, force_scale=0.04)
    write_start(old, HEADS, force_encoding=True)
    write_start(plain)
    recipe = str(CONFIGS / "eqv2_finetune.yml")

    def configured(path: Path, *overrides: str) -> float:
        arguments = [f"checkpoint={path}", "finetune/training=dens", *overrides]
        composed = get_hydra_config_from_yaml(recipe, arguments)
        return composed.runner.train_eval_unit.model.backbone.force_scale

    assert [configured(path) for path in (scaled, old, plain)] == [0.04, 1.0, 1.0]
    assert configured(plain, "force_scale=0.25") == 0.25

    def begun(path: Path, **backbone):
        wanted = {"force_encoding": True, **backbone}
        return starting_model(str(path), wanted, HEADS).backbone.config.force_scale

    assert begun(scaled) == 0.04
    assert begun(plain, force_scale=0.25) == 0.25
    for path, scale in ((scaled, "0.04"), (old, "1")):
        with pytest.raises(ValueError, match=rf"units of {scale} eV/Å.*force_scale=checkpoint"):
            begun(path, force_scale=0.25)


def test_info_shows_it_of_both_kinds_of_file(tmp_path, capsys):
    cases = {"scaled": {"force_encoding": True, "force_scale": 0.04}, "plain": {},
             "old": {"force_encoding": True}}  # fmt: skip
    said = {"scaled": "in units of 0.04 eV/Å", "old": "in units of 1 eV/Å"}
    for name, options in cases.items():
        write_start(tmp_path / f"{name}.pt", HEADS if options else None, **options)
        export_native(tmp_path / f"{name}.pt", tmp_path / f"{name}.safetensors")
        for suffix in ("pt", "safetensors"):
            assert cli.main(["info", str(tmp_path / f"{name}.{suffix}")]) == 0
            out = capsys.readouterr().out
            assert ("encoded forces" in out) is (name in said)
            assert said.get(name, "backbone") in out


def test_a_run_goes_on_with_the_scale_that_it_began_with(tmp_path):
    model = {"backbone": {"force_encoding": True, "lmax": 2}}
    text = "runner: {train_eval_unit: {model: {backbone: {force_encoding: true, lmax: 2}}}}\n"
    (tmp_path / "resume.yaml").write_text(text)
    model["backbone"]["force_scale"] = 1.0  # earlier versions did not write it
    check_same_model(tmp_path, model)
    model["backbone"]["force_scale"] = 0.04
    with pytest.raises(ValueError, match=r"force_scale.*1\.0.*0\.04"):
        check_same_model(tmp_path, model)
