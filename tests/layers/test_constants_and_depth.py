"""Constants that survive a change of dtype, and stochastic depth."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from helpers import (
    activations,
    batch_of,
    crystal,
    largest,
    molecule,
    randn,
    relative_error,
    slab,
    tiny_model,
)

from eqv2_plugin.backbones.equiformer_v2.block import StochasticDepth
from eqv2_plugin.layers.constants import ExactConstants

ROUGH = np.array([1 / 3, np.pi, 1e-8 + 1])


class Holder(ExactConstants):
    def __init__(self) -> None:
        super().__init__()
        self.register_constant("values", ROUGH)


def test_constants_are_exact_in_float64_after_a_life_in_lower_precision():
    holder = Holder()
    assert holder.values.dtype == torch.float32
    for life in (holder.double(), copy.deepcopy(holder).half().double()):
        assert life.values.dtype == torch.float64
        assert torch.equal(life.values, torch.from_numpy(ROUGH))
    assert torch.equal(holder.float().values, torch.from_numpy(ROUGH).float())


def test_constants_are_not_part_of_the_state():
    assert not Holder().state_dict()


@activations
@pytest.mark.parametrize("norm_type", ["layer_norm", "layer_norm_sh", "rms_norm_sh"])
def test_a_model_cast_to_float64_equals_one_built_in_float64(options, norm_type):
    cast = tiny_model(dtype=torch.float32, norm_type=norm_type, lmax=3, **options).double()
    torch.set_default_dtype(torch.float64)
    try:
        built = tiny_model(norm_type=norm_type, lmax=3, **options)
    finally:
        torch.set_default_dtype(torch.float32)
    built.load_state_dict(cast.state_dict(), strict=True)
    for (name, one), (_, other) in zip(cast.named_buffers(), built.named_buffers(), strict=True):
        assert one.dtype == other.dtype, name
        assert torch.equal(one, other), name
    data = batch_of(slab(), molecule())
    ours, theirs = cast(data.clone()), built(data.clone())
    for name in ("energy", "forces"):
        assert torch.equal(ours[name], theirs[name])


def test_stochastic_depth_drops_whole_structures_and_scales_up_the_others():
    layer = StochasticDepth(0.3).train()
    structure = torch.tensor([0] * 3 + [1] * 2 + [2] * 4)
    branch = randn(0, 9, 4, 5)
    torch.manual_seed(0)
    seen = set()
    for _ in range(40):
        output = layer(branch, structure, 3)
        kept = []
        for i in range(3):
            part = structure == i
            dropped = not output[part].any()
            kept.append(not dropped)
            assert dropped or relative_error(output[part], branch[part] / 0.7) < 1e-6
        seen.add(tuple(kept))
    # Structures are dropped independently of each other.
    assert len(seen) > 4


def test_stochastic_depth_keeps_the_expectation():
    layer = StochasticDepth(0.25).train()
    torch.manual_seed(1)
    num = 40_000
    output = layer(torch.ones(num, 1, 1).double(), torch.arange(num), num)
    # Standard error sqrt(0.25 / 0.75 / 40000) = 0.003.
    assert abs(float(output.mean()) - 1) < 0.012
    assert abs(float((output == 0).double().mean()) - 0.25) < 0.01


@pytest.mark.parametrize(("rate", "training"), [(0.5, False), (0.0, True)])
def test_stochastic_depth_is_the_identity_in_evaluation_and_at_rate_zero(rate, training):
    branch = randn(0, 9, 4, 5)
    output = StochasticDepth(rate).train(training)(branch, torch.zeros(9, dtype=torch.long), 1)
    assert torch.equal(output, branch)


def test_a_model_is_random_in_training_through_dropout_and_depth_only():
    data = batch_of(slab(), crystal(), molecule())
    for options in (
        {"alpha_drop": 0.4, "drop_path_rate": 0.0},
        {"alpha_drop": 0.0, "drop_path_rate": 0.4},
    ):
        model = tiny_model(**options).train()
        torch.manual_seed(0)
        first, second = model(data.clone())["forces"], model(data.clone())["forces"]
        assert largest(first - second) > 1e-6
    calm = tiny_model(alpha_drop=0.0, drop_path_rate=0.0).train()
    assert torch.equal(calm(data.clone())["forces"], calm(data.clone())["forces"])
