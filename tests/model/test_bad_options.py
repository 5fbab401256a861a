"""Configurations that the model refuses, with messages that say what to change."""

from __future__ import annotations

import pytest
import torch
from helpers import (
    CONSERVATIVE,
    DIRECT_HEADS,
    ENERGY,
    FORCES,
    GATE,
    STRESS,
    TOY,
    tiny_config,
    tiny_model,
)
from toy_backbone import ToyBackbone

from eqv2_plugin.backbones.registered import backbone_class
from eqv2_plugin.heads.conservative import ConservativeHead
from eqv2_plugin.heads.energy import EnergyHead
from eqv2_plugin.heads.forces import ForceHead
from eqv2_plugin.heads.stress import StressHead


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lmax": 2, "mmax": 3}, "mmax must lie between 0 and lmax=2, got 3"),
        ({"grid_resolution": 4}, "grid_resolution=4 is too coarse for lmax=2.* at least 6"),
        ({"grid_resolution": 17}, "must be even"),
        ({"lmax": 0, "mmax": 0}, "lmax must be at least 1"),
        ({"max_neighbours": 5}, "no option 'max_neighbours'; did you mean 'max_neighbors'"),
        ({"sphere_chanels": 5}, "did you mean 'sphere_channels'"),
        ({"zzz": 1}, "no option 'zzz'$"),
        ({"lmax": 2.0}, "lmax must be of type int, got 2.0"),
        ({"lmax": "2"}, "lmax must be of type int"),
        ({"num_heads": True}, "num_heads must be of type int, got True"),
        ({"cutoff": "5"}, "cutoff must be of type float"),
        ({"use_grid_mlp": 1}, "use_grid_mlp must be of type bool, got 1"),
        ({"edge_chunk_size": 1.5}, "edge_chunk_size must be of type int or null"),
        ({"activation": "silu"}, r"activation must be one of \['gate', 's2', 'sep_s2'\]"),
        ({"norm_type": "batch"}, "norm_type must be one of"),
        ({"activation": "gate", "use_grid_mlp": True}, "set use_grid_mlp=false"),
        ({"cutoff": 0.0}, "cutoff must be positive"),
        ({"num_heads": -1}, "num_heads must be positive"),
        ({"edge_chunk_size": 0}, "edge_chunk_size must be positive"),
        ({"alpha_drop": 1.0}, "alpha_drop must lie in"),
        ({"drop_path_rate": -0.1}, "drop_path_rate must lie in"),
        ({"radius_pbc_version": 4}, "radius_pbc_version must be 1, 2 or 3"),
        ({"num_distance_basis": 1}, "num_distance_basis must be at least 2"),
    ],
)
def test_a_wrong_option_is_explained(options, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(**options)


def test_an_integer_serves_as_a_number_and_null_as_the_smallest_grid():
    config = tiny_config(cutoff=5, grid_resolution=None)
    assert isinstance(config.cutoff, float)
    assert config.grid_resolution is None


@pytest.mark.parametrize(
    ("heads", "options", "message"),
    [
        ({"forces": FORCES}, {"direct_forces": False}, "ConservativeHead instead of ForceHead"),
        (DIRECT_HEADS, {"direct_forces": False}, "ConservativeHead instead of ForceHead"),
        ({"head": CONSERVATIVE}, {}, "set direct_forces=false"),
        (
            {"head": CONSERVATIVE},
            {"direct_forces": False, "regress_forces": False},
            "regress_forces=true",
        ),
        ({"energy": {**ENERGY, "reduce": "max"}}, {}, "reduce must be 'sum' or 'mean'"),
        ({"stress": STRESS}, {"lmax": 1, "mmax": 1}, "lmax of at least 2"),
    ],
)
def test_a_head_that_does_not_suit_the_backbone_says_what_to_change(heads, options, message):
    with pytest.raises(ValueError, match=message):
        tiny_model(heads, **GATE, **options)


@pytest.mark.parametrize("head", [EnergyHead, ForceHead, ConservativeHead, StressHead])
def test_a_head_on_a_foreign_backbone_names_ours(head):
    message = f"{head.__name__} needs a backbone .*EquiformerV2Backbone, got Linear"
    with pytest.raises(ValueError, match=message):
        head(torch.nn.Linear(2, 2))


def test_what_a_backbone_lacks_is_named(monkeypatch):
    with pytest.raises(ValueError, match=r"ToyBackbone does not say it has .*Conservative"):
        tiny_model({"stress": STRESS}, backbone=TOY)
    monkeypatch.delattr(ToyBackbone, "vector_network")
    with pytest.raises(ValueError, match="ToyBackbone has no vector_network"):
        tiny_model(backbone=TOY)


def test_only_registered_backbones_are_imported():
    with pytest.raises(ValueError, match=r"'os\.system' is no backbone of this package; there are"):
        backbone_class("os.system")
