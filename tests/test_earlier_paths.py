"""Checkpoints, configs and scripts that name modules by earlier paths still work."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from fairchem.core.common.registry import registry
from helpers import BACKBONE, ENERGY, TINY
from hydra.utils import get_object
from omegaconf import OmegaConf

from eqv2_plugin.checkpoints.native import header_from_json, header_to_json
from eqv2_plugin.checkpoints.record import NativeHeader, TaskRecord
from eqv2_plugin.earlier_paths import MOVED, PACKAGES, current_name
from eqv2_plugin.training.runner import RESUME_CONFIG, check_same_model

MODEL = "eqv2_plugin.model.EquiformerV2"
SOURCE = Path(__file__).parents[1] / "src" / "eqv2_plugin"


# Of packages that moved, today's modules and those that have moved since.
WITH_PACKAGE = [
    f"{earlier}.{module}"
    for earlier, present in PACKAGES.items()
    for module in sorted(
        {path.stem for path in SOURCE.glob(f"{present.replace('.', '/')}/[a-z]*.py")}
        | {path.rpartition(".")[2] for path in MOVED if path.rpartition(".")[0] == present}
    )
]


@pytest.mark.parametrize("earlier", [*MOVED, *WITH_PACKAGE])
def test_an_earlier_path_gives_the_module_itself(earlier):
    present = current_name(f"eqv2_plugin.{earlier}.any").removesuffix(".any")
    assert present != f"eqv2_plugin.{earlier}"
    assert import_module(f"eqv2_plugin.{earlier}") is import_module(present)


def test_fairchem_finds_a_class_by_its_earlier_path():
    found = registry.get_model_class("eqv2_plugin.model.EquiformerV2")
    assert found is registry.get_model_class(current_name("eqv2_plugin.model.EquiformerV2"))


@pytest.mark.parametrize(
    "name",
    [
        "element_checks.CheckedCollater", "finetuning.starting_model",
        "finetuning_runner.FinetuningRunner", "progress.ProgressBar", "report.RunReport",
        "runner.EquiformerV2TrainRunner", "seeding.SeedEveryStep",
    ],
)  # fmt: skip
def test_hydra_finds_what_configs_of_earlier_versions_name(name):
    assert get_object(f"eqv2_plugin.training.{name}").__name__ == name.partition(".")[2]


def test_current_names_stay():
    for name in ("eqv2_plugin.heads.energy.EnergyHead", "torch.nn.Linear", "eqv2_plugin.modelling"):
        assert current_name(name) == name


@pytest.mark.slow
def test_a_new_process_imports_an_earlier_path_first():
    code = "from eqv2_plugin.evaluation.relaxation.metrics import free_atoms; free_atoms.__name__"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_never_was_is_not_found():
    for name in ("evaluation.nothing", "evaluation.adsorbml.nothing"):
        with pytest.raises(ModuleNotFoundError):
            import_module(f"eqv2_plugin.{name}")


def test_a_native_file_that_names_classes_by_earlier_paths_is_read():
    record = TaskRecord("energy", "system", "energy", (1,), "float32", ("oc20",), 0.0, 1.0, False)
    backbone = {"model": BACKBONE, **TINY}
    model = {"_target_": current_name(MODEL), "backbone": backbone, "heads": {"energy": ENERGY}}
    header = NativeHeader(model, (record,))
    text = header_to_json(header).replace(current_name(MODEL), MODEL)
    text = text.replace(BACKBONE, "eqv2_plugin.backbone.EquiformerV2Backbone")
    assert MODEL in text
    assert header_from_json(text) == header


def test_a_run_of_an_earlier_version_is_resumed(tmp_path):
    saved = {"runner": {"train_eval_unit": {"model": {"_target_": MODEL, "lmax": 2}}}}
    OmegaConf.save(OmegaConf.create(saved), tmp_path / RESUME_CONFIG)
    check_same_model(tmp_path, {"_target_": current_name(MODEL), "lmax": 2})
    with pytest.raises(ValueError, match="lmax: 2 -> 3"):
        check_same_model(tmp_path, {"_target_": current_name(MODEL), "lmax": 3})
