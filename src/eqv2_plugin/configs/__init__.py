"""Hydra groups of the recipes, found through ``pkg://eqv2_plugin.configs``.

Importing this package, as Hydra does before it composes a config, registers the resolvers below: a
recipe writes ``${eqv2_size:small,100,null,null}`` for what `size_options` returns.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from omegaconf import ListConfig, OmegaConf

from eqv2_plugin.common import launcher


def _function(module: str, name: str) -> Callable[..., Any]:
    """A resolver that calls a function of the package; other configs do without the import."""

    def resolve(*arguments: Any) -> Any:
        plain = [tuple(a) if isinstance(a, ListConfig) else a for a in arguments]
        result = getattr(import_module(f"eqv2_plugin.{module}"), name)(*plain)
        return OmegaConf.create(result) if isinstance(result, (dict, list)) else result

    return resolve


_RESOLVERS: dict[str, Callable[..., Any]] = {
    "eqv2_among": _function("common.options", "among"),
    "eqv2_default": lambda value, default: default if value is None else value,
    "eqv2_device": lambda: "CUDA" if torch.cuda.is_available() else "CPU",
    # Whether something is given: the one, else the other.
    "eqv2_if": lambda given, one, other: other if given is None else one,
    "eqv2_force_scale": _function("dens.force_scale", "resolved_force_scale"),
    "eqv2_start_force_scale": _function("training.start", "start_force_scale"),
    "eqv2_start_normalizer": _function("training.start", "start_normalizer"),
    "eqv2_start_references": _function("training.start", "start_references"),
    "eqv2_start_direct_forces": _function("training.own", "start_direct_forces"),
    "eqv2_own_scale": _function("training.own", "own_scale"),
    "eqv2_own_references": _function("training.own", "own_references"),
    "eqv2_own_labels": _function("training.own", "own_labels"),
    "eqv2_own_source": _function("training.target", "own_source"),
    "eqv2_own_wanted": _function("training.target", "own_wanted"),
    "eqv2_scalar_scale": _function("training.target", "scalar_scale"),
    "eqv2_trains": lambda label, trained_labels: label in trained_labels,
    "eqv2_label_mapping": _function("training.own", "label_mapping"),
    "eqv2_data_name": _function("data.own.prepare", "data_name"),
    "eqv2_md17_std": _function("data.md17", "training_energy_std"),
    "eqv2_logger": _function("training.loggers", "job_logger"),
    "eqv2_number": _function("training.numbers", "checked_number"),
    "eqv2_starts": _function("data.own.starts", "write_starts"),
    "eqv2_own_data": _function("data.own.prepare", "prepared"),
    "eqv2_several": _function("data.own.several", "prepared_sets"),
    "eqv2_several_name": _function("data.own.several", "several_name"),
    "eqv2_several_sources": _function("data.own.several", "several_sources"),
    "eqv2_several_data_sets": _function("training.several", "several_data_sets"),
    "eqv2_several_heads": _function("training.several", "several_heads"),
    "eqv2_several_stress": _function("training.several", "several_regress_stress"),
    "eqv2_several_tasks": _function("training.several", "several_tasks"),
    "eqv2_size": _function("training.sizes", "size_options"),
    "eqv2_tasks": _function("training.tasks", "trained_tasks"),
}
# Of recipes of earlier versions, of which there are copies.
_RESOLVERS |= {
    "eqv2_energy_scale": lambda direct, energy, forces: energy if direct else forces,
    "eqv2_written_references": _function("data.references.coefficients", "references_config"),
}
for _name, _resolver in _RESOLVERS.items():
    OmegaConf.register_new_resolver(_name, _resolver, replace=True)

launcher.install()
