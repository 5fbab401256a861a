"""Options of fairchem-core 1's EquiformerV2 and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# v1 name -> ours, for options that mean the same.
_RENAMED = {
    "max_radius": "cutoff",
    "otf_graph": "otf_graph",
    "activation_checkpoint": "activation_checkpointing",
    "use_noise_schedule_sigma_encoding": "sigma_encoding",
    **{
        name: name
        for name in (
            "max_neighbors",
            "max_num_elements",
            "enforce_max_neighbors_strictly",
            "grid_resolution",
            "num_layers",
            "sphere_channels",
            "attn_hidden_channels",
            "num_heads",
            "attn_alpha_channels",
            "attn_value_channels",
            "ffn_hidden_channels",
            "edge_channels",
            "use_m_share_rad",
            "use_attn_renorm",
            "use_grid_mlp",
            "norm_type",
            "alpha_drop",
            "drop_path_rate",
        )
    },
}
# Options that the v1 code read and never used, or that choose how weights start.
_WITHOUT_EFFECT = {
    "model",
    "name",
    "use_pbc",
    "use_pbc_single",
    "regress_forces",
    "num_sphere_samples",
    "num_distance_basis",
    "weight_init",
    "load_energy_lin_ref",
    # An ablation: the DeNS unit encodes zero forces. The embedding is there all the same.
    "use_force_encoding",
    "use_energy_lin_ref",
}
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


def with_defaults(v1: Mapping[str, Any]) -> dict[str, Any]:
    """A v1 config with what v1 took for options that it does not name."""
    return {**_V1_DEFAULTS, **v1}


def backbone_options(v1: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `BackboneConfig` from those of a v1 config or checkpoint.

    Raises:
        ValueError: an unknown option, or a value that no published model has.
    """
    options: dict[str, Any] = {}
    for key, value in v1.items():
        if key in _RENAMED:
            if value is not None or key == "grid_resolution":
                options[_RENAMED[key]] = value
        elif key in _ONLY:
            if value != _ONLY[key]:
                raise ValueError(
                    f"{key}={value!r} is not supported; published models have {_ONLY[key]!r}"
                )
        elif key in ("avg_num_nodes", "avg_degree"):
            if value is not None:
                options[key] = float(value)
        elif key not in _WITHOUT_EFFECT | {
            "lmax_list", "mmax_list", "use_gate_act", "use_sep_s2_act",
            "use_atom_edge_embedding", "share_atom_edge_embedding",
        }:  # fmt: skip
            raise ValueError(f"unknown option {key!r} of an EquiformerV2 model of fairchem-core 1")
    options["lmax"] = _single(v1, "lmax_list", [6])
    options["mmax"] = _single(v1, "mmax_list", [2])
    options["activation"] = _activation(v1)
    options["atom_edge_embedding"] = _atom_edge_embedding(v1)
    options["force_encoding"] = "dens" in str(v1.get("model", "")).lower()
    return options


def _single(v1: Mapping[str, Any], key: str, default: list[int]) -> int:
    values = list(v1.get(key, default))
    if len(values) != 1:
        raise ValueError(f"{key}={values}: only one resolution is supported")
    return int(values[0])


def _activation(v1: Mapping[str, Any]) -> str:
    if v1.get("use_gate_act", False):
        return "gate"
    return "sep_s2" if v1.get("use_sep_s2_act", True) else "s2"


def _atom_edge_embedding(v1: Mapping[str, Any]) -> str:
    if not v1.get("use_atom_edge_embedding", True):
        return "none"
    return "shared" if v1.get("share_atom_edge_embedding", False) else "per_block"
