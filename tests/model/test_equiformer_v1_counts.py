"""Numbers of parameters of the published Equiformers, and options that are refused."""

from __future__ import annotations

import pytest
import torch
from helpers import CONSERVATIVE, ENERGY, FORCES, V1

from eqv2_plugin.backbones.equiformer_v1.config import EquiformerV1Config
from eqv2_plugin.models.hydra import EquiformerV2

NOISE = {"module": "eqv2_plugin.heads.forces.NoiseHead"}
L3 = {
    "irreps_node": "128x0e+64x1e+64x2e+32x3e",
    "irreps_head": "32x0e+16x1e+16x2e+8x3e",
    "irreps_ffn": "384x0e+192x1e+192x2e+96x3e",
}
DENS = {"force_encoding": True, "irreps_feature": "512x0e+256x1e+128x2e"}
DENS_L3 = {"force_encoding": True, "irreps_feature": "512x0e+256x1e+256x2e+128x3e", **L3}
QM9 = {"max_num_elements": 10, "elements": (1, 6, 7, 8, 9)}
IS2RE = {
    "direct_forces": True,
    "irreps_node": "256x0e+128x1e",
    "irreps_head": "32x0e+16x1e",
    "num_heads": 8,
    "irreps_ffn": "768x0e+384x1e",
    "distance_basis": "gaussian",
    "num_distance_basis": 128,
    "max_num_elements": 84,
    "tag_embedding": True,
}
AUXILIARY = {**IS2RE, "irreps_feature": "512x0e+256x1e"}
MODELS = {
    "md17_l2": (3_496_001, {}, {"head": CONSERVATIVE}),
    "md17_l3": (5_500_865, L3, {"head": CONSERVATIVE}),
    "md17_l2_dens": (4_000_577, DENS, {"head": CONSERVATIVE, "noise_forces": NOISE}),
    "md17_l3_dens": (6_354_241, DENS_L3, {"head": CONSERVATIVE, "noise_forces": NOISE}),
    "qm9_gaussian": (
        3_531_715,
        {**QM9, "distance_basis": "gaussian", "num_distance_basis": 128},
        {"energy": ENERGY},
    ),
    "qm9_bessel": (
        3_477_705,
        {**QM9, "distance_basis": "bessel", "num_distance_basis": 8},
        {"energy": ENERGY},
    ),
    "is2re": (9_123_331, IS2RE, {"energy": ENERGY}),
    "is2re_aux": (
        26_773_379,
        {**AUXILIARY, "num_layers": 18},
        {"energy": ENERGY, "forces": FORCES},
    ),
}


@pytest.mark.parametrize(("count", "options", "heads"), MODELS.values(), ids=MODELS)
def test_the_published_models_have_the_published_number_of_parameters(count, options, heads):
    with torch.device("meta"):
        model = EquiformerV2(backbone={"model": V1, **options}, heads=heads)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


REFUSED = {
    "degree 1 twice": ({"irreps_node": "8x0e+4x1e+4x1e"}, "irreps_node='8x0e\\+4x1e\\+4x1e' must"),
    "odd parity": ({"irreps_head": "8x0e+4x1o+2x2e"}, "irreps_head.* with parity e"),
    "no irreps": ({"irreps_ffn": "many"}, "irreps_ffn='many' are no irreps"),
    "too many": ({"irreps_ffn": "384x0e+99999x1e+96x2e"}, "1 to 16384 channels per degree"),
    "scalars only": ({"irreps_node": "8x0e"}, "needs degree 1 at least"),
    "other degrees": ({"irreps_head": "8x0e+4x1e"}, "must have the degrees of irreps_node"),
    "some degrees": ({"irreps_feature": "8x0e+4x1e"}, "must be scalars only, or have the degrees"),
    "element": ({"elements": (1, 64)}, "elements must be different atomic numbers from 1 to 63"),
    "dropout": ({"alpha_drop": 1.0}, r"alpha_drop must lie in \[0, 1\)"),
    "name": ({"irrep_head": "8x0e"}, "no option 'irrep_head'; did you mean 'irreps_head'"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_options_that_make_no_model_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        EquiformerV1Config.from_options(options)


def test_vectors_are_not_predicted_from_scalars():
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match="irreps_feature='512x0e' has scalars only"),
    ):
        EquiformerV2(backbone={"model": V1, "direct_forces": True}, heads={"forces": FORCES})
