"""Checkpoints, configs and scripts that name modules by earlier paths still work."""

import subprocess
import sys
from importlib import import_module

import pytest
from fairchem.core.common.registry import registry

from eqv2_plugin.earlier_paths import MOVED, current_name


@pytest.mark.parametrize("earlier", sorted(MOVED))
def test_an_earlier_path_gives_the_module_itself(earlier):
    assert import_module(f"eqv2_plugin.{earlier}") is import_module(f"eqv2_plugin.{MOVED[earlier]}")


def test_fairchem_finds_a_class_by_its_earlier_path():
    found = registry.get_model_class("eqv2_plugin.model.EquiformerV2")
    assert found is registry.get_model_class(current_name("eqv2_plugin.model.EquiformerV2"))


def test_current_names_stay():
    for name in ("eqv2_plugin.heads.energy.EnergyHead", "torch.nn.Linear", "eqv2_plugin.modelling"):
        assert current_name(name) == name


def test_a_new_process_imports_an_earlier_path_first():
    code = "from eqv2_plugin.evaluation.relaxation.metrics import free_atoms; free_atoms.__name__"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        import_module("eqv2_plugin.evaluation.nothing")
