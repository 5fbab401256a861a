"""Layer norm with a short second derivative."""

from __future__ import annotations

import pytest
import torch
from helpers import largest, randn, randomise
from torch import nn

from eqv2_plugin.kernels.layer_norm import apply_layer_norm


def gradients(function, features: torch.Tensor, layer: nn.LayerNorm) -> list[torch.Tensor]:
    """The value, and derivatives up to the third of a function of it, by all inputs."""
    leaves = [features.clone().requires_grad_(), layer.weight, layer.bias]
    value = function(leaves[0])
    found, total = [value], torch.sin(value).sum()
    for order in range(3):
        parts = torch.autograd.grad(total, leaves, create_graph=order < 2)
        found += parts
        total = sum((part * randn(order, *part.shape)).sin().sum() for part in parts)
    return found


@pytest.mark.parametrize("shape", [(5, 6), (3, 1, 6)])
def test_the_last_of_two_derivatives_needs_no_graph(shape):
    layer = randomise(nn.LayerNorm(shape[-1]).double(), seed=1)
    found = []
    for function in (lambda x: apply_layer_norm(layer, x), layer):
        leaves = [(0.1 * randn(2, *shape)).requires_grad_(), layer.weight, layer.bias]
        energy = torch.sin(function(leaves[0])).sum()
        force, *others = torch.autograd.grad(energy, leaves, create_graph=True)
        total = sum(part.square().sum() for part in (torch.sin(force), *others))
        found.append(torch.autograd.grad(total, leaves))
    for ours, wanted in zip(*found, strict=True):
        assert largest(ours - wanted) < 1e-12 * largest(wanted)


def formula(layer: nn.LayerNorm, features: torch.Tensor) -> torch.Tensor:
    centred = features - features.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return centred * torch.rsqrt(variance + layer.eps) * layer.weight + layer.bias


@pytest.mark.parametrize("shape", [(5, 6), (3, 1, 6), (2, 3, 1)])
def test_values_and_three_derivatives_are_those_of_the_formula(shape):
    """torch's own third derivative takes mean and variance for constants."""
    layer = randomise(nn.LayerNorm(shape[-1]).double(), seed=1)
    features = 0.1 * randn(2, *shape)  # eps counts
    ours = gradients(lambda x: apply_layer_norm(layer, x), features, layer)
    wanted = gradients(lambda x: formula(layer, x), features, layer)
    for found, right in zip(ours, wanted, strict=True):
        assert largest(found - right) < 1e-11 * max(1.0, largest(right))
