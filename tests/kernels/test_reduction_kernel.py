"""Compiled weighing, rotation back and sum over neighbours against the plain twin."""

from __future__ import annotations

import pytest
import torch
from kernel_inputs import make_inputs, relative_error, strided
from test_rotation_kernel import ALL_ORDERS

from eqv2_plugin.geometry.wigner import rotate_from_edge_frame
from eqv2_plugin.kernels.reduction import weigh_rotate_sum
from eqv2_plugin.kernels.rotation import pack_wigner


def plain(inputs, values, attention):
    weighed = (
        values * attention.repeat_interleave(values.shape[2] // attention.shape[1], dim=1)[:, None]
    )
    blocks = [block.double() for block in inputs.blocks]
    turned = rotate_from_edge_frame(weighed, blocks, inputs.layout)
    return turned.new_zeros(12, *turned.shape[1:]).index_add(0, inputs.target, turned)


@pytest.mark.parametrize(("lmax", "mmax"), ALL_ORDERS)
def test_values_and_gradients_equal_the_plain_twin(lmax, mmax):
    inputs = make_inputs(lmax, mmax, channels=32)
    values = inputs.random(inputs.edges, inputs.layout.size, 32)
    attention = inputs.random(inputs.edges, 4)
    found_in = [t.clone().requires_grad_() for t in (values, attention)]
    wanted_in = [t.double().requires_grad_() for t in (values, attention)]
    packed = pack_wigner(inputs.blocks)
    found = weigh_rotate_sum(*found_in, packed, inputs.offsets, inputs.layout)
    wanted = plain(inputs, *wanted_in)
    assert relative_error(found, wanted) < 1e-6
    assert not found[[0, 5, 11]].any()
    gradient = inputs.random(*found.shape)
    for ours, theirs in zip(
        torch.autograd.grad(found, found_in, gradient),
        torch.autograd.grad(wanted, wanted_in, gradient.double()),
        strict=True,
    ):
        assert relative_error(ours, theirs) < 1e-6


def test_strided_inputs_give_the_same_bits():
    inputs = make_inputs(3, 2, channels=32)
    values = inputs.random(inputs.edges, inputs.layout.size, 32)
    attention = inputs.random(inputs.edges, 2)
    packed = pack_wigner(inputs.blocks)
    expected = weigh_rotate_sum(values, attention, packed, inputs.offsets, inputs.layout)
    given = strided(values), strided(attention)
    assert not any(t.is_contiguous() for t in given)
    assert torch.equal(weigh_rotate_sum(*given, packed, inputs.offsets, inputs.layout), expected)
    gradient, results = inputs.random(*expected.shape), []
    for pair, weights in ((given, strided(gradient)), ((values, attention), gradient)):
        leaves = [t.detach().requires_grad_() for t in pair]
        out = weigh_rotate_sum(*leaves, packed, inputs.offsets, inputs.layout)
        results.append(torch.autograd.grad(out, leaves, weights))
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_atoms_without_edges_get_zeros():
    inputs = make_inputs(2, 1, channels=16)
    values = torch.empty(0, inputs.layout.size, 16, requires_grad=True)
    attention = torch.empty(0, 2, requires_grad=True)
    packed = pack_wigner([block[:0] for block in inputs.blocks])
    offsets = torch.zeros_like(inputs.offsets)
    out = weigh_rotate_sum(values, attention, packed, offsets, inputs.layout)
    assert out.shape == (len(offsets) - 1, 9, 16)
    assert not out.any()
    of_inputs = torch.autograd.grad(out.sum(), (values, attention))
    assert [tuple(t.shape) for t in of_inputs] == [tuple(values.shape), (0, 2)]


def test_two_threads_give_the_same_bits():
    inputs = make_inputs(2, 2, channels=16, edges=200)
    values = inputs.random(inputs.edges, inputs.layout.size, 16).requires_grad_()
    attention = inputs.random(inputs.edges, 1).requires_grad_()
    packed = pack_wigner(inputs.blocks)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            out = weigh_rotate_sum(values, attention, packed, inputs.offsets, inputs.layout)
            of_inputs = torch.autograd.grad(out.square().sum(), (values, attention))
            results.append((out, *of_inputs))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)
