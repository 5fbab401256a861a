"""A number that is not finite stays visible, and stays with its edge, node or row."""

from __future__ import annotations

import pytest
import torch
from kernel_inputs import make_inputs
from test_rotation_kernel import radial_blocks
from test_sphere_kernel import grid

from eqv2_plugin.kernels.reduction import weigh_rotate_sum
from eqv2_plugin.kernels.rotation import pack_wigner, rotate_and_scale
from eqv2_plugin.kernels.sphere import sampled_silu

BAD = [float("nan"), float("inf")]


@pytest.mark.parametrize("bad", BAD)
def test_rotation(bad):
    inputs = make_inputs(2, 2, channels=16)
    radial = inputs.random(inputs.edges, radial_blocks(inputs.layout, False) * 32)
    node = int(inputs.source[0])
    inputs.nodes[node, 5, 3] = bad
    ends = inputs.source, inputs.target
    out = rotate_and_scale(inputs.nodes, *ends, pack_wigner(inputs.blocks), radial, inputs.layout)
    touched = (inputs.source == node) | (inputs.target == node)
    assert not torch.isfinite(out[touched]).flatten(1).all(dim=1).any()
    assert torch.isfinite(out[~touched]).all()


@pytest.mark.parametrize("bad", BAD)
def test_reduction(bad):
    inputs = make_inputs(2, 2, channels=16)
    values = inputs.random(inputs.edges, inputs.layout.size, 16)
    attention = inputs.random(inputs.edges, 2)
    values[7, 4, 9] = bad
    packed = pack_wigner(inputs.blocks)
    out = weigh_rotate_sum(values, attention, packed, inputs.offsets, inputs.layout)
    finite = torch.isfinite(out).flatten(1).all(dim=1)
    assert not finite[inputs.target[7]]
    assert finite.sum() == len(out) - 1


@pytest.mark.parametrize("bad", BAD)
def test_activation(bad):
    _, factors = grid(2, 2, 6)
    features = torch.randn(5, 9, 16, generator=torch.Generator().manual_seed(0))
    features[2, 4, 9] = bad
    out = sampled_silu(features, factors, 0)
    assert not torch.isfinite(out[2, :, 9]).all()
    assert torch.isfinite(out[[0, 1, 3, 4]]).all()
