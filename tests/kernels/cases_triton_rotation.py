"""Triton's rotation into the edge frame against its plain twin; run by test_triton.py."""

from __future__ import annotations

import pytest
import torch
from kernel_inputs import make_inputs, relative_error, strided
from test_rotation_kernel import ORDERS, plain, radial_blocks
from triton_device import DEVICE, assert_one_rounding, on_device

from eqv2_plugin.kernels import triton_rotation
from eqv2_plugin.kernels.rotation import pack_wigner
from eqv2_plugin.kernels.triton_rotation import RotateAndScale, edges_of_nodes


def given(lmax, mmax, channels=6, shared=False, edges=5):
    inputs = make_inputs(lmax, mmax, channels, edges)
    width = 2 * channels * radial_blocks(inputs.layout, shared)
    return inputs, inputs.nodes, inputs.random(edges, width)


def run(inputs, nodes, radial):
    """Output and gradients by nodes and radial weights, and the gradient of the output."""
    nodes, radial = on_device(nodes, radial)
    ends = inputs.source.to(DEVICE), inputs.target.to(DEVICE)
    wigner = pack_wigner(inputs.blocks).to(DEVICE)
    out = RotateAndScale.apply(nodes, radial, *ends, wigner, inputs.layout)
    gradient = inputs.random(*out.shape)
    of_inputs = torch.autograd.grad(out, (nodes, radial), gradient.to(out))
    return [t.detach().cpu() for t in (out, *of_inputs)], gradient


@pytest.mark.parametrize(
    ("lmax", "mmax", "shared"),
    [(*pair, False) for pair in ORDERS] + [(*pair, True) for pair in ORDERS if pair[0] < 4],
)
def test_values_and_gradients_equal_the_plain_twin(lmax, mmax, shared):
    # The interpreter is slow: one edge of many rows.
    inputs, *tensors = given(lmax, mmax, shared=shared, edges=5 if lmax < 3 else 1)
    found, gradient = run(inputs, *tensors)
    exact = [t.double().requires_grad_() for t in tensors]
    wanted = plain(inputs, *exact, shared)
    of_inputs = torch.autograd.grad(wanted, exact, gradient.double())
    for ours, theirs in zip(found, (wanted, *of_inputs), strict=True):
        assert relative_error(ours, theirs) < 1e-6


def test_blocks_of_channels_are_put_together():
    inputs, *tensors = given(1, 1, channels=136, edges=2)
    found, gradient = run(inputs, *tensors)
    exact = [t.double().requires_grad_() for t in tensors]
    wanted = plain(inputs, *exact, False)
    of_inputs = torch.autograd.grad(wanted, exact, gradient.double())
    for ours, theirs in zip(found, (wanted, *of_inputs), strict=True):
        assert relative_error(ours, theirs) < 1e-6


def test_strided_inputs_give_the_same_bits():
    inputs, *tensors = given(2, 1)
    ends = inputs.source.to(DEVICE), inputs.target.to(DEVICE)
    packed = pack_wigner(inputs.blocks).to(DEVICE)
    results = []
    for form in (torch.clone, strided):
        nodes, radial, wigner = (form(t.to(DEVICE)) for t in (*tensors, packed))
        assert nodes.is_contiguous() == (form is torch.clone)
        leaves = nodes.requires_grad_(), radial.requires_grad_()
        out = RotateAndScale.apply(*leaves, *ends, wigner, inputs.layout)
        gradient = form(out.detach().square())
        results.append((out, *torch.autograd.grad(out, leaves, gradient)))
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_bfloat16_is_rounded_only_at_the_end():
    inputs, nodes, radial = given(2, 2)
    short = radial.bfloat16()
    found, gradient = run(inputs, nodes, short)
    wide, _ = run(inputs, nodes, short.float())
    assert [t.dtype for t in found] == [torch.bfloat16, torch.float32, torch.bfloat16]
    assert_one_rounding(found[0], wide[0])
    exact = [nodes.double().requires_grad_(), short.double().requires_grad_()]
    wanted = plain(inputs, *exact, False)
    of_nodes, of_radial = torch.autograd.grad(wanted, exact, gradient.bfloat16().double())
    assert relative_error(found[1], of_nodes) < 1e-6
    assert_one_rounding(found[2], of_radial)


def test_no_edges_give_an_empty_result_and_no_gradient():
    inputs, nodes, radial = given(2, 1, edges=0)
    (out, of_nodes, of_radial), _ = run(inputs, nodes, radial)
    assert out.shape == (0, inputs.layout.size, 12)
    assert of_nodes.shape == nodes.shape
    assert not of_nodes.any()
    assert of_radial.shape == radial.shape


def test_gradients_nobody_asks_for_are_not_computed(monkeypatch):
    inputs, nodes, radial = given(1, 1)
    ends = inputs.source.to(DEVICE), inputs.target.to(DEVICE)
    packed = pack_wigner(inputs.blocks).to(DEVICE)
    seen = []
    launch = triton_rotation.launch

    def counted(kernel, *arguments, **options):
        seen.append(kernel)
        launch(kernel, *arguments, **options)

    monkeypatch.setattr(triton_rotation, "launch", counted)
    for wanted in (0, 1):
        leaves = on_device(nodes, radial)
        leaves[1 - wanted].requires_grad_(False)
        out = RotateAndScale.apply(*leaves, *ends, packed, inputs.layout)
        out.sum().backward()
        assert leaves[1 - wanted].grad is None
    kernels = triton_rotation
    forward = kernels._forward
    assert seen == [forward, kernels._backward_nodes, forward, kernels._backward_radial]


def test_every_node_finds_its_edges_once():
    source, target = torch.tensor([2, 0, 2, 3]), torch.tensor([0, 0, 2, 2])
    order, offsets = edges_of_nodes(source, target, 5)
    nodes = [order[offsets[n] : offsets[n + 1]].tolist() for n in range(5)]
    # Sources count from 0, targets from 4; an edge from a node to itself counts twice.
    assert nodes == [[1, 4, 5], [], [0, 2, 6, 7], [3], []]


def test_edges_are_sorted_once_for_all_layers(monkeypatch):
    sorted_ends = []
    sort = torch.sort
    monkeypatch.setattr(torch, "sort", lambda *a, **o: sorted_ends.append(a) or sort(*a, **o))
    source, target = torch.tensor([2, 0, 2]), torch.tensor([0, 1, 1])
    first = edges_of_nodes(source, target, 3)
    assert edges_of_nodes(source, target, 3)[0] is first[0]
    assert len(sorted_ends) == 1
    other = edges_of_nodes(source, target.flip(0), 3)
    assert other[1].tolist() == [0, 2, 4, 6]
    assert edges_of_nodes(source, target, 4)[1].tolist() == [0, 2, 4, 6, 6]
    assert len(sorted_ends) == 3


def test_a_second_derivative_is_refused():
    inputs, *tensors = given(1, 1)
    leaves = on_device(*tensors)
    ends = inputs.source.to(DEVICE), inputs.target.to(DEVICE)
    wigner = pack_wigner(inputs.blocks).to(DEVICE)
    out = RotateAndScale.apply(*leaves, *ends, wigner, inputs.layout)
    (first,) = torch.autograd.grad(out.square().sum(), leaves[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
