"""The command ``eqv2`` reads its arguments without the imports that take seconds."""

import subprocess
import sys

import pytest

from eqv2_plugin.cli import main

START = "import sys, eqv2_entry; sys.argv = ['eqv2', *ARGUMENTS]; status = 0\n"
RUN = "try: status = eqv2_entry.main()\nexcept SystemExit as end: status = end.code\n"
HEAVY = "print(status, *sorted({'ase', 'fairchem', 'numpy', 'torch'} & set(sys.modules)))\n"
SHORT = """import eqv2_plugin
found = registry.get_model_class('equiformer_v2_hydra')
print(found is eqv2_plugin.EquiformerV2, hasattr(eqv2_plugin, 'nothing'))
"""
# Each in a process of its own, forked from one that has imported what takes long, and only that.
FORKED = """import os, sys
from fairchem.core.common.registry import registry
assert not {'eqv2_entry', 'eqv2_plugin'} & set(sys.modules)
for code in sys.argv[1:]:
    child = os.fork()
    if not child:
        exec(code)
        sys.stdout.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def lines(code: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def called_with(*arguments: str) -> str:
    return START.replace("ARGUMENTS", str(list(arguments))) + RUN


def test_help_imports_nothing_that_takes_long():
    assert lines(called_with("--help") + HEAVY)[-1] == "0"


def test_paths_of_recipes_need_no_imports_that_take_long():
    assert lines(called_with("config", "eqv2_oc20") + HEAVY)[-1] == "0"


def test_a_misspelt_recipe_is_guessed(capsys):
    assert main(["config", "eqv2_oc20_"]) == 1
    assert "did you mean 'eqv2_oc20'?" in capsys.readouterr().err


@pytest.mark.slow
def test_a_command_and_each_import_register_our_classes():
    """Processes that the command spawns import its script, whose ``main`` they do not call."""
    command = called_with("info", "missing.pt") + "assert status == 1\n"
    found = lines(FORKED, command + SHORT, SHORT, "import eqv2_entry\n" + SHORT)
    assert [line for line in found if line.startswith(("True", "False"))] == ["True False"] * 3
