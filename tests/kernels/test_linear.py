"""Linear maps on oneDNN against torch's own, with every derivative and any strides."""

from __future__ import annotations

import pytest
import torch
from helpers import largest, randn
from torch.fx.experimental.proxy_tensor import make_fx

from eqv2_plugin.common.tracing import recording
from eqv2_plugin.kernels.linear import linear, onednn_linear, product
from eqv2_plugin.layers import linear as module

needs_onednn = pytest.mark.skipif(onednn_linear() is None, reason="no oneDNN operator here")


@pytest.fixture
def any_size(monkeypatch):
    """Small products on oneDNN, too."""
    monkeypatch.setattr(module, "_SMALL", 0)


@pytest.fixture
def calls(monkeypatch):
    """Shapes that oneDNN was called with."""
    seen, operator = [], onednn_linear()

    def counted(left, right, bias):
        seen.append((tuple(left.shape), tuple(right.shape)))
        assert left.is_contiguous()
        assert right.is_contiguous()
        return operator(left, right, bias)

    monkeypatch.setattr(module, "onednn_linear", lambda: counted)
    return seen


def derivatives(function, *inputs: torch.Tensor) -> list[torch.Tensor]:
    """Value, first and second derivatives by all inputs."""
    inputs = [x.clone().requires_grad_(True) for x in inputs]
    value = function(*inputs)
    weights = randn(7, *value.shape).to(value.dtype)
    first = torch.autograd.grad((value.sin() * weights).sum(), inputs, create_graph=True)
    total = sum((g.square() * randn(8, *g.shape).to(g.dtype)).sum() for g in first)
    second = torch.autograd.grad(total, inputs)
    return [value, *first, *second]


@needs_onednn
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 4, 6), (40, 33, 17)])
def test_values_and_derivatives_are_torchs(shape, with_bias, any_size, calls):
    rows, width, out = shape
    inputs = [randn(0, rows, width).float(), randn(1, out, width).float()]
    if with_bias:
        inputs.append(randn(2, out).float())
    found = derivatives(linear, *inputs)
    assert len(calls) > 3
    exact = [x.double() for x in inputs]
    wanted = derivatives(torch.nn.functional.linear, *exact)
    for ours, theirs in zip(found, wanted, strict=True):
        assert largest(ours.double() - theirs) < 3e-6 * largest(theirs)


@needs_onednn
def test_a_bias_alone_gets_its_gradient(any_size, calls):
    features, weight = randn(0, 6, 8).float(), randn(1, 9, 8).float()
    bias = randn(2, 9).float().requires_grad_()
    gradient = randn(3, 6, 9).float()
    (found,) = torch.autograd.grad(linear(features, weight, bias), bias, gradient)
    assert calls
    torch.testing.assert_close(found, gradient.sum(dim=0))


@needs_onednn
@pytest.mark.parametrize(("width", "copied"), [(96, False), (512, True)])
def test_gradients_of_narrow_weights_need_no_transposed_copies(width, copied, any_size, calls):
    features, weight = randn(0, 40, width).float(), randn(1, width, width).float()
    out = linear(features, weight.requires_grad_())
    calls.clear()
    (found,) = torch.autograd.grad(out, weight, torch.ones_like(out))
    assert bool(calls) == copied
    assert largest(found - features.sum(dim=0)) < 1e-4


@needs_onednn
def test_the_operator_is_found_whatever_the_default_dtype_is():
    onednn_linear.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        assert onednn_linear() is not None
    finally:
        torch.set_default_dtype(torch.float32)
        onednn_linear.cache_clear()


@needs_onednn
def test_features_and_weights_may_be_strided(any_size, calls):
    features = randn(0, 6, 8, 5).float().transpose(1, 2)  # [6, 5, 8]
    weight = randn(1, 9, 20).float()[:, 3:11]
    found = linear(features, weight)
    wanted = torch.nn.functional.linear(features, weight)
    assert calls == [((30, 8), (9, 8))]
    assert found.shape == (6, 5, 9)
    assert largest(found - wanted) < 1e-5


@needs_onednn
def test_large_float32_products_only_go_to_onednn(calls):
    left, right = randn(0, 300, 128), randn(1, 128, 128)
    linear(left, right)
    linear(left[:3].float(), right.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        linear(left.float(), right.float())
    assert calls == []
    linear(left.float(), right.float())
    product(left.float(), right.float())
    assert len(calls) == 2


@needs_onednn
def test_no_rows_give_no_rows(any_size):
    weight = randn(1, 4, 3).float().requires_grad_(True)
    out = linear(torch.zeros(0, 3), weight)
    assert out.shape == (0, 4)
    out.sum().backward()
    assert largest(weight.grad) == 0


def test_a_build_without_the_operator_uses_torchs_own(monkeypatch):
    monkeypatch.setattr(module, "onednn_linear", lambda: None)
    left, right = randn(0, 300, 128).float(), randn(1, 128, 128).float()
    assert torch.equal(linear(left, right), torch.nn.functional.linear(left, right))
    assert torch.equal(product(left, right), torch.nn.functional.linear(left, right))


@needs_onednn
def test_a_wrong_operator_is_not_used(monkeypatch):
    right_operator = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda *a: 1.01 * right_operator(*a))
    onednn_linear.cache_clear()
    try:
        assert onednn_linear() is None
    finally:
        monkeypatch.undo()
        onednn_linear.cache_clear()


def test_what_is_recorded_has_only_operators_with_derivatives():
    left, right = randn(0, 512, 96, dtype=torch.float32), randn(1, 96, 96, dtype=torch.float32)

    def product_of(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return linear(left, right)

    with recording():
        graph = make_fx(product_of)(left, right)
    assert not any("mkldnn" in str(node.target) for node in graph.graph.nodes)
    with torch.no_grad():
        assert largest(graph(left, right) - linear(left, right)) < 1e-4
