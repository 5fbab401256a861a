"""Numbers of parameters of the published models."""

from __future__ import annotations

import pytest
import torch
from helpers import BACKBONE, DIRECT_HEADS, ENERGY

from eqv2_plugin.models.hydra import EquiformerV2

# The options of the base model of Table 7, spelt out so that no default can hide a change.
BASE = {
    "cutoff": 12.0,
    "num_distance_basis": 600,
    "max_num_elements": 90,
    "num_layers": 12,
    "lmax": 6,
    "mmax": 2,
    "grid_resolution": 18,
    "sphere_channels": 128,
    "attn_hidden_channels": 64,
    "num_heads": 8,
    "attn_alpha_channels": 64,
    "attn_value_channels": 16,
    "ffn_hidden_channels": 128,
    "edge_channels": 128,
    "atom_edge_embedding": "per_block",
    "use_m_share_rad": False,
    "use_attn_renorm": True,
    "activation": "sep_s2",
    "use_grid_mlp": True,
    "norm_type": "layer_norm_sh",
    "distance_basis": "gaussian",
}
GATE = {"activation": "gate", "use_grid_mlp": False, "norm_type": "layer_norm"}
# QM9 and IS2RE models: energy only, 128 learnable Gaussians, no atom-pair scalars.
ENERGY_ONLY = {
    "distance_basis": "learnable_gaussian",
    "num_distance_basis": 128,
    "atom_edge_embedding": "none",
    "edge_channels": 64,
}


def num_parameters(heads: dict, **options) -> int:
    with torch.device("meta"):
        model = EquiformerV2(
            backbone={"model": BACKBONE, **BASE, **options},
            heads=heads,
            pass_through_head_outputs=True,
        )
    assert all(parameter.is_meta for parameter in model.parameters())
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (83_164_802, {}),
        (44_826_882, {"lmax": 4}),
        (134_282_242, {"lmax": 8, "grid_resolution": 20}),
        (31_058_690, {"num_layers": 8, "lmax": 4}),
        (153_602_690, {"num_layers": 20, "mmax": 3}),
        (95_105_666, {"mmax": 3}),
        (102_144_386, {"mmax": 4}),
        (106_627_202, {"mmax": 6}),
        (121_526_402, {"num_layers": 18}),
        (91_056_322, {**GATE, "use_attn_renorm": False}),
        (91_057_986, GATE),
        (81_458_370, {"activation": "s2", "norm_type": "layer_norm"}),
    ],
    ids=str,
)
def test_energy_and_force_models_have_the_published_number_of_parameters(count, options):
    assert num_parameters(DIRECT_HEADS, **options) == count


QM9 = {
    **ENERGY_ONLY,
    "max_num_elements": 5,
    "lmax": 4,
    "mmax": 4,
    "sphere_channels": 96,
    "attn_hidden_channels": 48,
    "num_heads": 4,
    "attn_value_channels": 24,
    "ffn_hidden_channels": 96,
}


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (36_034_691, {**ENERGY_ONLY, "num_layers": 6}),
        (11_197_603, {**QM9, "num_layers": 6}),
        (9_352_803, {**QM9, "num_layers": 5}),
    ],
    ids=["is2re", "qm9_6_blocks", "qm9_5_blocks"],
)
def test_energy_models_have_the_published_number_of_parameters(count, options):
    assert num_parameters({"energy": ENERGY}, **options) == count


def test_the_backbone_counts_its_own_parameters():
    with torch.device("meta"):
        model = EquiformerV2(
            backbone={"model": BACKBONE, **BASE, "num_layers": 1}, heads=DIRECT_HEADS
        )
    heads = sum(parameter.numel() for parameter in model.output_heads.parameters())
    total = sum(parameter.numel() for parameter in model.parameters())
    assert model.backbone.num_params == total - heads


def test_defaults_of_the_backbone_are_the_base_model():
    with torch.device("meta"):
        model = EquiformerV2(backbone={"model": BACKBONE}, heads=DIRECT_HEADS)
    assert sum(parameter.numel() for parameter in model.parameters()) == 83_164_802
    assert {name: getattr(model.backbone.config, name) for name in BASE} == BASE
