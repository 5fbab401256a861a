"""Hydra groups of the recipes, found through ``pkg://eqv2_plugin.configs``.

Importing this package, as Hydra does before it composes a config, registers resolvers:
``${eqv2_device:}``, ``${eqv2_default:value,default}``,
``${eqv2_force_scale:value,data,exclude_splits}`` (see `eqv2_plugin.dens.force_scale`), and for
fine-tuning ``${eqv2_start_normalizer:source,checkpoint,label,key,unsafe}``,
``${eqv2_start_references:source,checkpoint,unsafe}`` and
``${eqv2_start_force_scale:source,data,exclude_splits,checkpoint,unsafe}`` (see
`eqv2_plugin.training.start`).
"""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf


def _force_scale(*arguments: Any) -> float:
    # Other configs do without these imports.
    from eqv2_plugin.dens.force_scale import resolved_force_scale

    return resolved_force_scale(*arguments)


def _start_force_scale(*arguments: Any) -> float:
    from eqv2_plugin.training.start import start_force_scale

    return start_force_scale(*arguments)


def _start_normalizer(*arguments: Any) -> float:
    from eqv2_plugin.training.start import start_normalizer

    return start_normalizer(*arguments)


def _start_references(*arguments: Any) -> DictConfig | None:
    from eqv2_plugin.training.start import start_references

    config = start_references(*arguments)
    return None if config is None else OmegaConf.create(config)


_RESOLVERS = {
    "eqv2_default": lambda value, default: default if value is None else value,
    "eqv2_device": lambda: "CUDA" if torch.cuda.is_available() else "CPU",
    "eqv2_force_scale": _force_scale,
    "eqv2_start_force_scale": _start_force_scale,
    "eqv2_start_normalizer": _start_normalizer,
    "eqv2_start_references": _start_references,
}
for _name, _resolver in _RESOLVERS.items():
    OmegaConf.register_new_resolver(_name, _resolver, replace=True)
