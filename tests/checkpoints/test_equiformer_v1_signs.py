"""The sign convention of Clebsch-Gordan coefficients in files of the Equiformer authors."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3
from helpers import TINY_V1

from eqv2_plugin.backbones.equiformer_v1.config import EquiformerV1Config
from eqv2_plugin.checkpoints.equiformer_v1.signs import TURNED, stored_convention
from eqv2_plugin.checkpoints.equiformer_v1.weights import convert_state

NAME = "blocks.0.ga.sep_act.dtp.tp._compiled_main_left_right._w3j_{}_{}_{}"


def tables(sign: float, orders=((1, 1, 2), (2, 2, 1), (1, 2, 2), (3, 1, 3))) -> dict:
    return {
        NAME.format(*degrees): (sign if degrees in TURNED else 1.0) * o3.wigner_3j(*degrees)
        for degrees in orders
    }


@pytest.mark.parametrize(("sign", "wanted"), [(1.0, "e3nn_0.5"), (-1.0, "e3nn_0.4")])
def test_tables_tell_the_convention(sign, wanted):
    assert stored_convention(tables(sign)) == wanted


def test_tables_that_did_not_change_tell_nothing():
    assert stored_convention(tables(-1.0, orders=((1, 1, 2), (2, 2, 2)))) is None
    assert stored_convention({"norm.affine_weight": torch.ones(3)}) is None


def test_tables_of_both_conventions_or_of_none_are_refused():
    mixed = tables(1.0, orders=((2, 2, 1),)) | tables(-1.0, orders=((3, 1, 3),))
    with pytest.raises(ValueError, match="two conventions"):
        stored_convention(mixed)
    with pytest.raises(ValueError, match="no table of Clebsch-Gordan coefficients known here"):
        stored_convention({NAME.format(1, 2, 2): torch.randn(3, 5, 5)})


def test_weights_of_unknown_signs_are_refused_and_so_is_a_contradiction():
    config = EquiformerV1Config.from_options(TINY_V1)
    with pytest.raises(ValueError, match=r"Say which: e3nn_0\.4"):
        convert_state({}, config, scalar_head="energy")
    with pytest.raises(ValueError, match=r"tables .* are those of e3nn_0.4, but e3nn_0.5"):
        convert_state(tables(-1.0), config, scalar_head="energy", convention="e3nn_0.5")
