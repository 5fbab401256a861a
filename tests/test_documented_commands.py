"""Every command of README and docs, as a shell hands it on: configs, keys and options exist."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from eqv2_plugin.cli import build_parser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_INSTALLED = re.compile(r'"\$\(eqv2 config (\w+)\)"')


def commands(program: str) -> list[list[str]]:
    """The words of each command of the code blocks that begins with ``program``, once each."""
    found: dict[tuple[str, ...], None] = {}
    for page in PAGES:
        for language, block in _BLOCK.findall(page.read_text()):
            if language not in ("bash", "sh", "console", ""):
                continue
            for line in block.replace("\\\n", " ").splitlines():
                text = _INSTALLED.sub(r"configs/\1.yml", line.strip().removeprefix("$ "))
                if text.startswith(f"{program} "):
                    found[tuple(shlex.split(text, comments=True))] = None
    return [list(words) for words in found]


OURS, FAIRCHEM = commands("eqv2"), commands("fairchem")


def test_the_pages_have_commands():
    assert len(OURS) > 20
    assert len(FAIRCHEM) > 15


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_our_commands_have_the_arguments_that_the_pages_give_them(words):
    options = build_parser().parse_args(words[1:])
    assert callable(options.run)
    if config := getattr(options, "config", None):
        assert (ROOT / config).is_file()


@pytest.mark.parametrize("words", FAIRCHEM, ids=" ".join)
def test_jobs_have_configs_with_the_keys_that_the_pages_set(words, tmp_path):
    assert words[1] == "-c"
    overrides = words[3:]
    sweeps = [
        o for o in OverridesParser.create().parse_overrides(overrides) if o.is_sweep_override()
    ]
    assert not sweeps, f"Hydra takes {sweeps[0].input_line!r} for a sweep: quote the value"
    composed(ROOT / words[2], overrides, tmp_path)


def composed(config: Path, overrides: list[str], folder: Path) -> None:
    """As fairchem composes it, a copy in a folder by itself, but values stay unresolved.

    Some are read from files (checkpoints, references), which are not there.
    """
    shutil.copy(config, folder / "job.yaml")
    with initialize_config_dir(str(folder), version_base="1.1"):
        compose("job", overrides)


@pytest.mark.parametrize("wrong", ["no_such_key=1", "model.backbone.no_such_key=1", "data=none"])
def test_a_key_or_a_group_that_does_not_exist_would_be_found_out(wrong, tmp_path):
    with pytest.raises(HydraException):
        composed(ROOT / "configs" / "eqv2_oc20.yml", [wrong], tmp_path)


def test_a_value_with_a_comma_would_be_found_out():
    """The fault that this is for: the shell takes the quotes off."""
    (word,) = shlex.split("data.energy_reference='DFT total energy, PBE'")
    (override,) = OverridesParser.create().parse_overrides([word])
    assert override.is_sweep_override()
