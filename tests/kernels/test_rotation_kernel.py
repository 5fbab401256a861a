"""Compiled rotation into the edge frame against its plain twin."""

from __future__ import annotations

import pytest
import torch
from kernel_inputs import make_inputs, relative_error, strided

from eqv2_plugin.geometry.wigner import rotate_to_edge_frame
from eqv2_plugin.kernels.rotation import (
    pack_wigner,
    rotate_and_scale,
    rotate_and_scale_order,
)

ALL_ORDERS = [(lmax, mmax) for lmax in range(1, 9) for mmax in range(lmax + 1)]
# What each costs a compilation (Triton), or says little more.
ORDERS = [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (4, 2), (5, 3), (6, 2), (6, 3), (7, 2), (8, 2)]


def plain(inputs, nodes, radial, shared):
    """In float64, one row after the other."""
    turned = rotate_to_edge_frame(
        (nodes[inputs.source], nodes[inputs.target]),
        [block.double() for block in inputs.blocks],
        inputs.layout,
    )
    pairs = [
        (degree, order)
        for order in range(inputs.layout.mmax + 1)
        for degree in range(order, inputs.layout.lmax + 1)
    ]
    width = turned.shape[2]
    factors = []
    for degree, order in inputs.layout.rows:
        block = degree if shared else pairs.index((degree, abs(order)))
        factors.append(radial[:, block * width : (block + 1) * width])
    return turned * torch.stack(factors, dim=1)


def radial_blocks(layout, shared):
    orders = range(layout.mmax + 1)
    return layout.lmax + 1 if shared else sum(layout.num_degrees(m) for m in orders)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("lmax", "mmax"), ALL_ORDERS)
def test_values_and_gradients_equal_the_plain_twin(lmax, mmax, shared):
    inputs = make_inputs(lmax, mmax, channels=16)
    blocks = radial_blocks(inputs.layout, shared)
    radial = inputs.random(inputs.edges, blocks * 32)
    nodes = inputs.nodes
    found_in = [t.clone().requires_grad_() for t in (nodes, radial)]
    wanted_in = [t.double().requires_grad_() for t in (nodes, radial)]
    ends = inputs.source, inputs.target
    packed = pack_wigner(inputs.blocks)
    found = rotate_and_scale(found_in[0], *ends, packed, found_in[1], inputs.layout)
    wanted = plain(inputs, *wanted_in, shared)
    assert relative_error(found, wanted) < 1e-6
    gradient = inputs.random(*found.shape)
    for ours, theirs in zip(
        torch.autograd.grad(found, found_in, gradient),
        torch.autograd.grad(wanted, wanted_in, gradient.double()),
        strict=True,
    ):
        assert relative_error(ours, theirs) < 1e-6


@pytest.mark.parametrize(("lmax", "mmax"), ORDERS)
def test_single_orders_are_the_rows_of_the_whole(lmax, mmax):
    inputs = make_inputs(lmax, mmax, channels=16)
    layout, width = inputs.layout, 32
    radial = inputs.random(inputs.edges, radial_blocks(layout, False) * width)
    ends, packed = (inputs.source, inputs.target), pack_wigner(inputs.blocks)
    whole_in = [t.clone().requires_grad_() for t in (inputs.nodes, radial)]
    whole = rotate_and_scale(whole_in[0], *ends, packed, whole_in[1], layout)
    parts_in = [t.clone().requires_grad_() for t in (inputs.nodes, radial)]
    parts, start = [], 0
    for order in range(mmax + 1):
        end = start + layout.num_degrees(order) * width
        for signed in (order, -order) if order else (0,):
            weights = parts_in[1][:, start:end]
            parts.append(
                rotate_and_scale_order(parts_in[0], *ends, packed, weights, layout, signed)
            )
        start = end
    joined = torch.cat(parts, dim=1).view_as(whole)
    assert torch.equal(joined, whole)
    gradient = inputs.random(*whole.shape)
    for ours, theirs in zip(
        torch.autograd.grad(joined, parts_in, gradient),
        torch.autograd.grad(whole, whole_in, gradient),
        strict=True,
    ):
        assert relative_error(ours, theirs) < 1e-6


def test_radial_weights_of_another_order_are_refused():
    inputs = make_inputs(3, 2, channels=16)
    radial = inputs.random(inputs.edges, 4 * 32)
    ends, packed = (inputs.source, inputs.target), pack_wigner(inputs.blocks)
    with pytest.raises(ValueError, match="order 2 needs 64 radial weights, got 128"):
        rotate_and_scale_order(inputs.nodes, *ends, packed, radial, inputs.layout, 2)


def test_strided_inputs_give_the_same_bits():
    inputs = make_inputs(3, 2, channels=32)
    radial = inputs.random(inputs.edges, radial_blocks(inputs.layout, False) * 64)
    ends, packed = (inputs.source, inputs.target), pack_wigner(inputs.blocks)
    expected_in = [t.clone().requires_grad_() for t in (inputs.nodes, radial)]
    expected = rotate_and_scale(expected_in[0], *ends, packed, expected_in[1], inputs.layout)
    gradient = inputs.random(*expected.shape)
    strided_in = [strided(t).requires_grad_() for t in (inputs.nodes, radial)]
    assert not any(t.is_contiguous() for t in strided_in)
    found = rotate_and_scale(strided_in[0], *ends, packed, strided_in[1], inputs.layout)
    assert torch.equal(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, strided_in, strided(gradient)),
        torch.autograd.grad(expected, expected_in, gradient),
        strict=True,
    ):
        assert torch.equal(ours, theirs)


def test_two_threads_equal_one():
    inputs = make_inputs(2, 2, channels=16, edges=200)
    radial = inputs.random(inputs.edges, radial_blocks(inputs.layout, False) * 32)
    ends, packed = (inputs.source, inputs.target), pack_wigner(inputs.blocks)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            given = [t.clone().requires_grad_() for t in (inputs.nodes, radial)]
            out = rotate_and_scale(given[0], *ends, packed, given[1], inputs.layout)
            results.append((out, *torch.autograd.grad(out.square().sum(), given)))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        assert relative_error(two, one) < 1e-6


def test_no_edges_give_an_empty_result():
    inputs = make_inputs(2, 1, channels=16)
    none = inputs.source[:0]
    packed = pack_wigner([block[:0] for block in inputs.blocks])
    radial = torch.zeros(0, radial_blocks(inputs.layout, False) * 32)
    out = rotate_and_scale(inputs.nodes, none, none, packed, radial, inputs.layout)
    assert out.shape == (0, inputs.layout.size, 32)


def test_radial_weights_of_a_wrong_size_are_refused():
    inputs = make_inputs(2, 1, channels=16)
    radial = inputs.random(inputs.edges, 4 * 32)
    packed = pack_wigner(inputs.blocks)
    with pytest.raises(ValueError, match="radial weights per edge fit no layout"):
        rotate_and_scale(inputs.nodes, inputs.source, inputs.target, packed, radial, inputs.layout)


def test_a_second_derivative_is_refused():
    inputs = make_inputs(2, 1, channels=16)
    nodes = inputs.nodes.requires_grad_()
    radial = inputs.random(inputs.edges, radial_blocks(inputs.layout, False) * 32).requires_grad_()
    packed = pack_wigner(inputs.blocks)
    ends = inputs.source, inputs.target
    out = rotate_and_scale(nodes, *ends, packed, radial, inputs.layout)
    (first,) = torch.autograd.grad(out.square().sum(), nodes, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
