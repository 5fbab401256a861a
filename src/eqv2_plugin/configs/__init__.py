"""Hydra groups of the recipes, found through ``pkg://eqv2_plugin.configs``.

Importing this package, as Hydra does before it composes a config, registers resolvers:
``${eqv2_device:}``, ``${eqv2_default:value,default}``, and for fine-tuning
``${eqv2_start_normalizer:source,checkpoint,label,key,unsafe}`` and
``${eqv2_start_references:source,checkpoint,unsafe}`` (see `eqv2_plugin.training.start_values`).
"""

import torch
from omegaconf import DictConfig, OmegaConf


def available_device() -> str:
    """fairchem's name of the device that is there: CUDA, else CPU."""
    return "CUDA" if torch.cuda.is_available() else "CPU"


def value_or_default(value: str | None, default: str) -> str:
    """``default`` where nothing was given."""
    return default if value is None else value


def start_normalizer(
    source: str, checkpoint: str, label: str, key: str, unsafe: bool = False
) -> float:
    """See `eqv2_plugin.training.start_values.start_normalizer`."""
    # Other configs do without these imports.
    from eqv2_plugin.training import start_values

    return start_values.start_normalizer(source, checkpoint, label, key, unsafe)


def start_references(source: str, checkpoint: str, unsafe: bool = False) -> DictConfig | None:
    """See `eqv2_plugin.training.start_values.start_references`."""
    from eqv2_plugin.training import start_values

    config = start_values.start_references(source, checkpoint, unsafe)
    return None if config is None else OmegaConf.create(config)


OmegaConf.register_new_resolver("eqv2_default", value_or_default, replace=True)
OmegaConf.register_new_resolver("eqv2_device", available_device, replace=True)
OmegaConf.register_new_resolver("eqv2_start_normalizer", start_normalizer, replace=True)
OmegaConf.register_new_resolver("eqv2_start_references", start_references, replace=True)
