"""Hydra groups of the recipes, found through ``pkg://eqv2_plugin.configs``.

Importing this package, as Hydra does before it composes a config, registers two
resolvers: ``${eqv2_device:}`` and ``${eqv2_default:value,default}``.
"""

import torch
from omegaconf import OmegaConf


def available_device() -> str:
    """fairchem's name of the device that is there: CUDA, else CPU."""
    return "CUDA" if torch.cuda.is_available() else "CPU"


def value_or_default(value: str | None, default: str) -> str:
    """``default`` where nothing was given."""
    return default if value is None else value


OmegaConf.register_new_resolver("eqv2_default", value_or_default, replace=True)
OmegaConf.register_new_resolver("eqv2_device", available_device, replace=True)
