"""Configs, for tests that read some of their values or make an object of a part."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from unittest.mock import patch

from fairchem.core import _cli
from omegaconf import DictConfig

CONFIGS = Path(__file__).parents[1] / "configs"


@cache
def composed(name: str, *overrides: str) -> DictConfig:
    """``configs/NAME.yml`` as ``fairchem -c`` composes it, to be read only.

    What is interpolated is resolved where it is read. fairchem resolves the whole once for each
    key, to find those without use, which takes most of a second; of that,
    ``training/test_recipes.py`` has a test.
    """
    with patch.object(_cli, "get_canonical_config", lambda config: config):
        return _cli.get_hydra_config_from_yaml(str(CONFIGS / f"{name}.yml"), list(overrides))
