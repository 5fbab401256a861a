"""Configs of fairchem-core 1, in all their forms, as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_SINGLE_CLASS = "equiformer_v2"
_HYDRA_OPTIONS = {
    "name",
    "backbone",
    "heads",
    "pass_through_head_outputs",
    "otf_graph",
    "freeze_backbone",
}


@dataclass(frozen=True)
class V1Model:
    """Model part of a config.

    Attributes:
        family_name: name that says which model it is (of the backbone, if there is one).
        single_class: the legacy class ``equiformer_v2``, without heads in the config.
        backbone: options of the class or the backbone.
        heads: {name: {"module": ..., options}}.
    """

    family_name: str
    single_class: bool
    backbone: dict[str, Any]
    heads: dict[str, dict[str, Any]]


def read_yaml(path: Path) -> dict[str, Any]:
    """A config file as plain data.

    Raises:
        ValueError: not readable, no YAML mapping, or without a model.
    """
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as a YAML config: {error}") from error
    if not isinstance(config, dict) or "model" not in config:
        raise ValueError(f"{path} is no config of fairchem-core 1: it has no 'model'")
    return config


def normalise_model(config: Mapping[str, Any]) -> V1Model:
    """The model that a config describes.

    Raises:
        ValueError: the model part is missing or has an unknown form or option.
    """
    section = config.get("model")
    if isinstance(section, str):  # OCP 1
        options = {**(config.get("model_attributes") or {}), "name": section}
    elif isinstance(section, Mapping):
        options = dict(section)
    else:
        raise ValueError(
            "the config has no 'model'; give the model's config file with --config FILE.yml"
        )
    name = str(options.get("name"))
    if name != "hydra":
        own = {"energy": {"module": "equiformer_v2_energy_head"}}
        if options.get("regress_forces", True):
            own["forces"] = {"module": "equiformer_v2_force_head"}
        options.pop("name", None)
        return V1Model(name, name == _SINGLE_CLASS, options, own)
    unknown = set(options) - _HYDRA_OPTIONS
    if unknown:
        raise ValueError(f"unknown options of a hydra model: {', '.join(sorted(unknown))}")
    backbone, heads = options.get("backbone"), options.get("heads")
    if not isinstance(backbone, Mapping) or not isinstance(heads, Mapping):
        raise ValueError("a hydra model's config must have 'backbone' and 'heads'")
    return V1Model(
        family_name=str(backbone.get("model")),
        single_class=False,
        backbone=dict(backbone),
        heads={str(key): dict(head) for key, head in heads.items()},
    )


def dataset_section(config: Mapping[str, Any]) -> dict[str, Any]:
    """The training set's part: a dictionary, the first of a list, or ``train`` of several."""
    section = config.get("dataset") or {}
    if isinstance(section, list):
        section = section[0] if section else {}
    if isinstance(section, Mapping) and isinstance(section.get("train"), Mapping):
        section = section["train"]
    return dict(section) if isinstance(section, Mapping) else {}


def stated_normalizers(config: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Normalisers that the config states in numbers: {target: (mean, rmsd)}."""
    dataset = dataset_section(config)
    stated = {}
    for target, key in (("energy", "target"), ("forces", "grad_target")):
        mean, std = dataset.get(f"{key}_mean"), dataset.get(f"{key}_std")
        if dataset.get("normalize_labels") and mean is not None and std is not None:
            stated[target] = float(mean), float(std)
    entries = (dataset.get("transforms") or {}).get("normalizer") or {}
    for target, entry in entries.items():
        if not isinstance(entry, Mapping):
            continue
        mean, rmsd = entry.get("mean"), entry.get("rmsd", entry.get("stdev"))
        if isinstance(mean, (int, float)) and isinstance(rmsd, (int, float)):
            stated[target] = float(mean), float(rmsd)
    return stated
