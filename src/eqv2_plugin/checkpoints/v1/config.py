"""Configs of fairchem-core 1, in all their forms, and the options of ours that they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# v1 name -> ours, for options that mean the same.
_RENAMED = {
    "max_radius": "cutoff",
    "activation_checkpoint": "activation_checkpointing",
    "use_noise_schedule_sigma_encoding": "sigma_encoding",
}
_SAME = {
    "otf_graph", "max_neighbors", "max_num_elements", "enforce_max_neighbors_strictly",
    "grid_resolution", "num_layers", "sphere_channels", "attn_hidden_channels", "num_heads",
    "attn_alpha_channels", "attn_value_channels", "ffn_hidden_channels", "edge_channels",
    "use_m_share_rad", "use_attn_renorm", "use_grid_mlp", "norm_type", "alpha_drop",
    "drop_path_rate",
}  # fmt: skip
# Options that become others, below.
_TRANSLATED = {
    "lmax_list", "mmax_list", "use_gate_act", "use_sep_s2_act", "use_atom_edge_embedding",
    "share_atom_edge_embedding",
}  # fmt: skip
# Options that the v1 code read and never used, or that choose how weights start.
_WITHOUT_EFFECT = {
    "model", "name", "use_pbc", "use_pbc_single", "regress_forces", "num_sphere_samples",
    "num_distance_basis", "weight_init", "load_energy_lin_ref", "use_energy_lin_ref",
    # An ablation: the DeNS unit encodes zero forces. The embedding is there all the same.
    "use_force_encoding",
}  # fmt: skip
# What v1 took where a config is silent, if ours differs.
_V1_DEFAULTS = {
    "max_radius": 5.0,
    "max_neighbors": 500,
    "enforce_max_neighbors_strictly": True,
    "grid_resolution": None,
    "attn_hidden_channels": 128,
    "attn_alpha_channels": 32,
    "ffn_hidden_channels": 512,
    "norm_type": "rms_norm_sh",
    "use_grid_mlp": False,
}
# Options of which only one value was ever published.
_ONLY = {
    "distance_function": "gaussian",
    "attn_activation": "silu",
    "ffn_activation": "silu",
    "use_s2_act_attn": False,
    "proj_drop": 0.0,
}
_SINGLE_CLASS = "equiformer_v2"
_HYDRA_OPTIONS = {
    "name", "backbone", "heads", "pass_through_head_outputs", "otf_graph", "freeze_backbone",
}  # fmt: skip


@dataclass(frozen=True)
class V1Model:
    """Model part of a config."""

    family_name: str  # name that says which model it is (of the backbone, if there is one)
    single_class: bool  # the legacy class ``equiformer_v2``, without heads in the config
    backbone: dict[str, Any]  # its options
    heads: dict[str, dict[str, Any]]  # options by name, with "module"


def read_yaml(path: Path) -> dict[str, Any]:
    """A config file as plain data, which must have a model."""
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as a YAML config: {error}") from error
    if not isinstance(config, dict) or "model" not in config:
        raise ValueError(f"{path} is no config of fairchem-core 1: it has no 'model'")
    return config


def normalise_model(config: Mapping[str, Any]) -> V1Model:
    """The model that a config describes."""
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


def backbone_options(v1: Mapping[str, Any]) -> dict[str, Any]:
    """Options of EquiformerV2's backbone from those of a v1 config or checkpoint."""
    v1 = {**_V1_DEFAULTS, **v1}
    options: dict[str, Any] = {}
    for key, value in v1.items():
        if key in _RENAMED or key in _SAME:
            if value is not None or key == "grid_resolution":
                options[_RENAMED.get(key, key)] = value
        elif key in _ONLY:
            if value != _ONLY[key]:
                raise ValueError(
                    f"{key}={value!r} is not supported; published models have {_ONLY[key]!r}"
                )
        elif key in ("avg_num_nodes", "avg_degree"):
            if value is not None:
                options[key] = float(value)
        elif key not in _WITHOUT_EFFECT | _TRANSLATED:
            raise ValueError(f"unknown option {key!r} of an EquiformerV2 model of fairchem-core 1")
    for key, default in (("lmax", 6), ("mmax", 2)):
        values = list(v1.get(f"{key}_list", [default]))
        if len(values) != 1:
            raise ValueError(f"{key}_list={values}: only one resolution is supported")
        options[key] = int(values[0])
    gate, separable = v1.get("use_gate_act", False), v1.get("use_sep_s2_act", True)
    options["activation"] = "gate" if gate else "sep_s2" if separable else "s2"
    shared = "shared" if v1.get("share_atom_edge_embedding", False) else "per_block"
    embedded = v1.get("use_atom_edge_embedding", True)
    options["atom_edge_embedding"] = shared if embedded else "none"
    options["force_encoding"] = "dens" in str(v1.get("model", "")).lower()
    return options


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
