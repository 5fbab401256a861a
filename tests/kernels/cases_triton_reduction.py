"""Triton's weighing, rotation back and sum against the plain twin; run by test_triton.py."""

from __future__ import annotations

import pytest
import torch
from kernel_inputs import make_inputs, relative_error, strided
from test_reduction_kernel import plain
from test_rotation_kernel import ORDERS
from triton_device import DEVICE, assert_one_rounding, on_device

from eqv2_plugin.kernels.rotation import pack_wigner
from eqv2_plugin.kernels.triton_reduction import WeighRotateSum


def given(lmax, mmax, heads=3, per_head=2, edges=5):
    inputs = make_inputs(lmax, mmax, 1, edges)
    values = inputs.random(edges, inputs.layout.size, heads * per_head)
    return inputs, values, inputs.random(edges, heads)


def run(inputs, values, attention):
    """Output and gradients by values and attention, and the gradient of the output."""
    values, attention = on_device(values, attention)
    wigner, offsets = pack_wigner(inputs.blocks).to(DEVICE), inputs.offsets.to(DEVICE)
    out = WeighRotateSum.apply(values, attention, wigner, offsets, inputs.layout)
    gradient = inputs.random(*out.shape)
    of_inputs = torch.autograd.grad(out, (values, attention), gradient.to(out))
    return [t.detach().cpu() for t in (out, *of_inputs)], gradient


def assert_equal_to_the_twin(inputs, *tensors):
    found, gradient = run(inputs, *tensors)
    exact = [t.double().requires_grad_() for t in tensors]
    wanted = plain(inputs, *exact)
    of_inputs = torch.autograd.grad(wanted, exact, gradient.double())
    for ours, theirs in zip(found, (wanted, *of_inputs), strict=True):
        assert relative_error(ours, theirs) < 1e-6
    return found[0]


@pytest.mark.parametrize(("lmax", "mmax"), ORDERS)
def test_values_and_gradients_equal_the_plain_twin(lmax, mmax):
    out = assert_equal_to_the_twin(*given(lmax, mmax, edges=5 if lmax < 5 else 2))
    assert not out[[0, 5, 11]].any()


# Heads of one channel, more channels than one program takes, one head as wide as a program.
@pytest.mark.parametrize(("heads", "per_head"), [(5, 1), (9, 16), (1, 130), (8, 16)])
def test_any_heads_fit(heads, per_head):
    assert_equal_to_the_twin(*given(1, 1, heads, per_head, edges=2))


def test_strided_inputs_give_the_same_bits():
    inputs, *tensors = given(2, 1)
    offsets, packed = inputs.offsets.to(DEVICE), pack_wigner(inputs.blocks).to(DEVICE)
    results = []
    for form in (torch.clone, strided):
        values, attention, wigner = (form(t.to(DEVICE)) for t in (*tensors, packed))
        assert values.is_contiguous() == (form is torch.clone)
        leaves = values.requires_grad_(), attention.requires_grad_()
        out = WeighRotateSum.apply(*leaves, wigner, offsets, inputs.layout)
        gradient = form(out.detach().square())
        results.append((out, *torch.autograd.grad(out, leaves, gradient)))
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_bfloat16_is_rounded_only_at_the_end():
    inputs, values, attention = given(2, 2)
    short = values.bfloat16()
    found, gradient = run(inputs, short, attention)
    wide, _ = run(inputs, short.float(), attention)
    assert [t.dtype for t in found] == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert_one_rounding(found[0], wide[0])
    exact = [short.double().requires_grad_(), attention.double().requires_grad_()]
    wanted = plain(inputs, *exact)
    of_values, of_attention = torch.autograd.grad(wanted, exact, gradient.bfloat16().double())
    assert_one_rounding(found[1], of_values)
    assert relative_error(found[2], of_attention) < 1e-6


def test_no_edges_give_zeros():
    (out, of_values, of_attention), _ = run(*given(2, 1, edges=0))
    assert out.shape == (12, 9, 6)
    assert not out.any()
    assert of_values.shape == (0, 7, 6)
    assert of_attention.shape == (0, 3)
