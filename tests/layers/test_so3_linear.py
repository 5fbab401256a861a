"""Degree-wise linear layer."""

from __future__ import annotations

import pytest
import torch
from helpers import largest, node_wigner, randn, random_rotation, randomise, relative_error

from eqv2_plugin.geometry.irreps import degree_slice
from eqv2_plugin.kernels.linear import fits_onednn
from eqv2_plugin.layers.so3_linear import SO3Linear


def make(lmax: int) -> SO3Linear:
    return randomise(SO3Linear(3, 4, lmax).double(), seed=1)


@pytest.mark.parametrize("lmax", [0, 2, 6])
def test_a_rotation_passes_through_the_layer(lmax):
    layer, turn = make(lmax), node_wigner(random_rotation(2), lmax)
    features = randn(3, 5, (lmax + 1) ** 2, 3)
    assert largest(layer(turn @ features) - turn @ layer(features)) < 1e-12


@pytest.mark.parametrize("lmax", [0, 2, 4])
def test_every_row_is_multiplied_by_the_matrix_of_its_degree(lmax):
    layer = make(lmax)
    features = randn(3, 5, (lmax + 1) ** 2, 3)
    output = layer(features)
    for degree in range(lmax + 1):
        for row in range(degree * degree, (degree + 1) ** 2):
            wanted = features[:, row] @ layer.weight[degree].T
            wanted = wanted + layer.bias if degree == 0 else wanted
            assert largest(output[:, row] - wanted) < 1e-13


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_one_degree_alone_equals_its_rows_of_the_full_output(degree):
    layer = make(3)
    features = randn(3, 5, 16, 3)
    part = degree_slice(degree)
    difference = layer.degree(features[:, part], degree) - layer(features)[:, part]
    assert largest(difference) < 1e-14


def test_products_of_onednn_degree_by_degree_equal_one_product_of_all_rows():
    layer = randomise(SO3Linear(128, 128, 2), seed=1)
    features = randn(3, 20, 9, 128, dtype=torch.float32)
    assert fits_onednn(features, layer.weight[0])
    weights = randn(4, 20, 9, 128, dtype=torch.float32)
    found = []
    for dtype in (torch.float32, torch.float64):
        layer, leaf = layer.to(dtype), features.to(dtype).requires_grad_()
        output = layer(leaf)
        leaves = [leaf, layer.weight, layer.bias]
        found.append((output, *torch.autograd.grad((output * weights.to(dtype)).sum(), leaves)))
    for ours, wanted in zip(*found, strict=True):
        assert relative_error(ours, wanted) < 1e-5
