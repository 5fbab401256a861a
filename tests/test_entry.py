"""The command ``eqv2`` reads its arguments without the imports that take seconds."""

import subprocess
import sys

from eqv2_plugin.cli import main

START = "import sys, eqv2_entry; sys.argv = ['eqv2', *ARGUMENTS]; status = 0\n"
RUN = "try: status = eqv2_entry.main()\nexcept SystemExit as end: status = end.code\n"
HEAVY = "print(status, *sorted({'ase', 'fairchem', 'numpy', 'torch'} & set(sys.modules)))\n"
SHORT = """from fairchem.core.common.registry import registry
import eqv2_plugin
found = registry.get_model_class('equiformer_v2_hydra')
print(found is eqv2_plugin.EquiformerV2, hasattr(eqv2_plugin, 'nothing'))
"""


def last_line(code: str, *arguments: str) -> str:
    code = code.replace("ARGUMENTS", str(list(arguments)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


def test_help_imports_nothing_that_takes_long():
    assert last_line(START + RUN + HEAVY, "--help") == "0"


def test_a_command_registers_our_classes():
    assert last_line(START + RUN + "print(status)\n" + SHORT, "info", "missing.pt") == "True False"


def test_the_import_registers_our_classes():
    assert last_line(SHORT) == "True False"


def test_what_only_imports_the_entry_registers_our_classes():
    """Processes that the command spawns import its script, whose ``main`` they do not call."""
    assert last_line("import eqv2_entry\n" + SHORT) == "True False"


def test_paths_of_recipes_need_no_imports_that_take_long():
    assert last_line(START + RUN + HEAVY, "config", "eqv2_oc20") == "0"


def test_a_misspelt_recipe_is_guessed(capsys):
    assert main(["config", "eqv2_oc20_"]) == 1
    assert "did you mean 'eqv2_oc20'?" in capsys.readouterr().err
