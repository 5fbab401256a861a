"""Feed-forward network, and its cut to the energy's scalars."""

from __future__ import annotations

import pytest
import torch
from helpers import (
    ACTIVATIONS,
    GATE,
    activations,
    largest,
    node_wigner,
    randn,
    random_rotation,
    randomise,
    tiny_config,
)

from eqv2_plugin.backbones.equiformer_v2.block import make_feed_forward


def make(options: dict, scalars_only: bool = False, lmax: int = 3) -> torch.nn.Module:
    torch.manual_seed(0)
    layer = make_feed_forward(tiny_config(lmax=lmax, **options), 4, scalars_only)
    return randomise(layer.double(), seed=1)


def nodes(lmax: int = 3) -> torch.Tensor:
    return randn(2, 6, (lmax + 1) ** 2, 8)


@activations
@pytest.mark.parametrize("lmax", [2, 3])
def test_scalars_alone_equal_the_first_row_of_the_full_output(options, lmax):
    full, scalars = make(options, lmax=lmax), make(options, scalars_only=True, lmax=lmax)
    scalars.load_state_dict(full.state_dict(), strict=True)
    output = scalars(nodes(lmax))
    assert output.shape == (6, 1, 4)
    assert largest(output - full(nodes(lmax))[:, :1]) < 1e-13


@activations
def test_parameters_are_frozen_exactly_if_they_cannot_reach_the_scalars(options):
    layer = make(options, scalars_only=True)
    frozen = {name for name, p in layer.named_parameters() if not p.requires_grad}
    layer.requires_grad_(True)
    layer(nodes()).square().sum().backward()
    dead = {n for n, p in layer.named_parameters() if p.grad is None or not p.grad.any()}
    assert dead == frozen


@activations
def test_every_parameter_of_the_full_network_acts(options):
    layer = make(options)
    layer(nodes()).square().sum().backward()
    assert all(largest(parameter.grad) > 0 for parameter in layer.parameters())


def test_a_rotation_passes_through_the_network_with_gate_activation():
    layer, turn = make(GATE), node_wigner(random_rotation(3), 3)
    output = layer(nodes())
    assert largest(layer(turn @ nodes()) - turn @ output) < 1e-11 * largest(output)


@pytest.mark.parametrize("kind", ["s2", "s2_grid_mlp", "sep_s2", "sep_s2_grid_mlp"])
def test_a_rotation_passes_through_the_network_as_exactly_as_the_grid_is_fine(kind):
    turn = node_wigner(random_rotation(3), 3)
    errors = []
    for resolution in (8, 18, 60):
        layer = make({**ACTIVATIONS[kind], "grid_resolution": resolution})
        output = layer(nodes())
        errors.append(largest(layer(turn @ nodes()) - turn @ output) / largest(output))
    print(kind, errors)
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[1] < 1e-3
    assert errors[2] < 1e-8


@pytest.mark.parametrize("kind", ["s2_grid_mlp", "sep_s2_grid_mlp"])
def test_grid_mlp_acts_on_every_sample_of_the_sphere(kind):
    layer, x = make(ACTIVATIONS[kind]), nodes()
    silu = torch.nn.functional.silu
    first, _, second, _, third = layer.grid_mlp
    samples = torch.einsum("gk,nkc->ngc", layer.grid.to_grid_matrix, layer.linear_1(x))
    samples = silu(silu(samples @ first.weight.T) @ second.weight.T) @ third.weight.T
    hidden = torch.einsum("kg,ngc->nkc", layer.grid.from_grid_matrix, samples)
    if kind.startswith("sep"):
        hidden[:, 0] = silu(layer.scalar_linear(x[:, 0]))
    assert largest(layer(x) - layer.linear_2(hidden)) < 1e-12
