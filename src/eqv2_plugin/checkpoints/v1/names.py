"""Parameter names of fairchem-core 1 (and of the authors' repositories) and ours.

Shapes are the same; only names differ. Every name must be known: a parameter that is
neither renamed nor listed as derived is an error, never dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

# Within an attention block (`ga` and `force_block` in v1).
_ATTENTION = [
    (r"alpha_dot", "alpha_dot"),
    (r"alpha_norm\.(weight|bias)", r"alpha_norm.\1"),
    (r"(source|target)_embedding\.weight", r"atom_pairs.\1.weight"),
    (r"(?:so2_conv_1\.)?rad_func\.net\.(.*)", r"radial.{radial:\1}"),
    (r"so2_conv_([12])\.fc_m0\.(weight|bias)", r"so2_linear_\1.linear_m0.\2"),
    (r"so2_conv_([12])\.so2_m_conv\.(\d+)\.fc\.weight", r"so2_linear_\1.order_weights.\2"),
    (r"proj\.(weight|bias)", r"projection.\1"),
]
_FEED_FORWARD = [
    (r"so3_linear_([12])\.(weight|bias)", r"linear_\1.\2"),
    (r"(?:scalar_mlp\.0|gating_linear)\.(weight|bias)", r"scalar_linear.\1"),
    (r"grid_mlp\.([024])\.weight", r"grid_mlp.\1.weight"),
]
_NORM = [
    (r"affine_weight", "weight"),
    (r"affine_bias", "bias"),
    (r"norm_l0\.(weight|bias)", r"scalar_norm.\1"),
]
_RADIAL = {"0": "hidden_1", "1": "norm_1", "3": "hidden_2", "4": "norm_2", "6": "output"}


def _prefixed(old: str, new: str, rules: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """``rules`` below a prefix; ``old`` may hold the groups that ``new`` refers to as {0}."""
    shift = re.compile(old).groups
    out = []
    for pattern, target in rules:
        moved = re.sub(r"\\(\d)", lambda m: f"\\{int(m.group(1)) + shift}", target)
        out.append((f"{old}\\.{pattern}", f"{new}.{moved}"))
    return out


_RULES = [
    (r"backbone\.sphere_embedding\.weight", r"backbone.atom_embedding.weight"),
    (r"backbone\.distance_expansion\.(mean|std|weight|bias)", r"backbone.distance_basis.\1"),
    (r"backbone\.(source|target)_embedding\.weight", r"backbone.shared_pairs.\1.weight"),
    *_prefixed(
        r"backbone\.edge_degree_embedding",
        "backbone.edge_degree_embedding",
        [_ATTENTION[2], (r"rad_func\.net\.(.*)", r"radial.{radial:\1}")],
    ),
    *_prefixed(r"backbone\.blocks\.(\d+)\.norm_([12])", r"backbone.blocks.\1.norm_\2", _NORM),
    *_prefixed(r"backbone\.blocks\.(\d+)\.ga", r"backbone.blocks.\1.attention", _ATTENTION),
    *_prefixed(r"backbone\.blocks\.(\d+)\.ffn", r"backbone.blocks.\1.feed_forward", _FEED_FORWARD),
    *_prefixed(r"backbone\.norm", "backbone.norm", _NORM),
    (r"backbone\.force_embedding\.(weight|bias)", r"backbone.force_embedding.linear.\1"),
    (
        r"backbone\.noise_schedule_sigma_embedding\.(weight|bias)",
        r"backbone.force_embedding.sigma_linear.\1",
    ),
    *_prefixed(
        r"output_heads\.(\w+)\.(?:energy|scalar)_block",
        r"output_heads.\1.energy_block",
        _FEED_FORWARD,
    ),
    *_prefixed(
        r"output_heads\.(\w+)\.(?:force|vector)_block",
        r"output_heads.\1.vector_block",
        _ATTENTION,
    ),
    # v1 kept the noise block within the force head.
    *_prefixed(
        r"output_heads\.forces\.denoising_pos_block",
        "output_heads.noise_forces.vector_block",
        _ATTENTION,
    ),
    *_prefixed(r"output_heads\.(\w+)\.sphharm_norm", r"output_heads.\1.harmonics_norm", _NORM),
    (r"output_heads\.(\w+)\.xedge_layer_norm\.(weight|bias)", r"output_heads.\1.edge_norm.\2"),
    (r"output_heads\.(\w+)\.block\.r2tensor_MLP\.(.*)", r"output_heads.\1.tensor_mlp.\2"),
    (r"output_heads\.(\w+)\.block\.scalar_MLP\.(.*)", r"output_heads.\1.scalar_mlp.\2"),
    (r"output_heads\.(\w+)\.block\.irrep2_MLP\.(.*)", r"output_heads.\1.degree_2_mlp.\2"),
]
# Buffers of v1 that follow from the configuration.
_DERIVED = re.compile(
    r"(.*\.)?(SO3_grid|SO3_rotation|mappingReduced|expand_index|balance_degree_weight|"
    r"distance_expansion\.offset|to_grid_mat|from_grid_mat|gate_act|s2_act)\b.*"
)


def rename_v1_key(key: str) -> str | None:
    """Our name of a v1 parameter in the layout ``backbone.*`` / ``output_heads.*``.

    None for a buffer that follows from the configuration; raises ValueError for an unknown name.
    """
    for pattern, target in _RULES:
        match = re.fullmatch(pattern, key)
        if match:
            name = match.expand(target)
            return re.sub(
                r"\{radial:(\d)\.(\w+)\}", lambda m: f"{_RADIAL[m.group(1)]}.{m.group(2)}", name
            )
    if _DERIVED.fullmatch(key):
        return None
    raise ValueError(f"unknown parameter {key!r}: not a layout of EquiformerV2 that is known here")


def from_single_class(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The layout of the legacy single class, as ``backbone.*`` / ``output_heads.*``."""
    heads = {
        "energy_block.": "output_heads.energy.energy_block.",
        "force_block.": "output_heads.forces.force_block.",
    }
    renamed = {}
    for key, value in state.items():
        for old, new in heads.items():
            if key.startswith(old):
                renamed[new + key[len(old) :]] = value
                break
        else:
            renamed[f"backbone.{key}"] = value
    return renamed


def rename_v1_state(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename a whole state dict of the layout ``backbone.*`` / ``output_heads.*``."""
    renamed: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        name = rename_v1_key(key)
        if name is None:
            continue
        if name in renamed:
            raise ValueError(f"two parameters of the checkpoint would become {name!r}")
        renamed[name] = value
    return renamed
