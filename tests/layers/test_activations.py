"""Equivariant activations: what a rotation changes, and the path of degree 0."""

from __future__ import annotations

import pytest
import torch
from helpers import largest, node_wigner, randn, random_rotation, relative_error

from eqv2_plugin.geometry.irreps import degree_of_row
from eqv2_plugin.geometry.sphere_grid import sphere_grid_matrices
from eqv2_plugin.layers.activations import EquivariantActivation, SphereGrid, smooth_leaky_relu

CHANNELS = 6
# Measured on features of unit variance, times about 2. The error falls exponentially with R.
BOUNDS = {(1, 18): 2e-8, (2, 18): 1e-4, (4, 18): 1e-2, (6, 18): 0.2, (8, 20): 0.5}
FINE = {(1, 26): 3e-12, (2, 40): 1e-10, (4, 60): 1e-8, (6, 60): 4e-6, (8, 60): 1e-4}


def make(kind: str, lmax: int, resolution: int | None = None) -> EquivariantActivation:
    grid = None
    if kind != "gate":
        grid = SphereGrid(sphere_grid_matrices(lmax, lmax, resolution))
    return EquivariantActivation(kind, degree_of_row(lmax), grid, CHANNELS).double()


def inputs(activation: EquivariantActivation) -> tuple[torch.Tensor, torch.Tensor]:
    rows = (activation.lmax + 1) ** 2
    return randn(2, 20, rows, CHANNELS), randn(3, 20, activation.num_scalars)


def error_of_a_rotation(activation: EquivariantActivation) -> float:
    features, scalars = inputs(activation)
    errors = []
    for seed in range(3):
        turn = node_wigner(random_rotation(seed), activation.lmax)
        wanted = turn @ activation(features, scalars)
        errors.append(relative_error(activation(turn @ features, scalars), wanted))
    return max(errors)


@pytest.mark.parametrize("lmax", [1, 2, 4, 6, 8])
def test_gate_commutes_with_rotations_exactly(lmax):
    assert error_of_a_rotation(make("gate", lmax)) < 1e-12


@pytest.mark.parametrize("kind", ["s2", "sep_s2"])
@pytest.mark.parametrize(("lmax", "resolution"), [*BOUNDS, *FINE])
def test_s2_commutes_with_rotations_within_the_measured_error_of_its_grid(kind, lmax, resolution):
    error = error_of_a_rotation(make(kind, lmax, resolution))
    print(f"{kind} L={lmax} R={resolution}: {error:.1e}")
    assert error < {**BOUNDS, **FINE}[lmax, resolution]


def test_gate_is_silu_on_scalars_and_one_sigmoid_per_degree_and_channel_elsewhere():
    activation = make("gate", 3)
    features, gates = inputs(activation)
    output = activation(features, gates)
    for row, degree in enumerate(degree_of_row(3)):
        if degree == 0:
            wanted = torch.nn.functional.silu(features[:, 0])
        else:
            part = gates[:, (degree - 1) * CHANNELS : degree * CHANNELS]
            wanted = features[:, row] * torch.sigmoid(part)
        assert largest(output[:, row] - wanted) < 1e-14


def test_separable_s2_takes_scalars_from_a_path_of_their_own_and_the_rest_from_s2():
    plain, separable = make("s2", 3, 18), make("sep_s2", 3, 18)
    features, scalars = inputs(separable)
    output = separable(features, scalars)
    assert largest(output[:, 0] - torch.nn.functional.silu(scalars)) < 1e-14
    assert largest(output[:, 1:] - plain(features, scalars)[:, 1:]) < 1e-14


def test_s2_applies_silu_to_every_sample_on_the_sphere():
    activation = make("s2", 2, 18)
    features, _ = inputs(activation)
    to_grid, from_grid = (torch.from_numpy(m) for m in sphere_grid_matrices(2, 2, 18))
    samples = torch.einsum("gk,nkc->ngc", to_grid, features)
    wanted = torch.einsum("kg,ngc->nkc", from_grid, samples / (1 + torch.exp(-samples)))
    assert largest(activation(features, None) - wanted) < 1e-13


@pytest.mark.parametrize("kind", ["gate", "s2", "sep_s2"])
def test_inputs_are_left_unchanged_without_gradients(kind):
    activation = make(kind, 2, 18)
    features, scalars = inputs(activation)
    copies = features.clone(), scalars.clone()
    with torch.no_grad():
        output = activation(features, scalars)
    assert torch.equal(features, copies[0])
    assert torch.equal(scalars, copies[1])
    # Not in place either when gradients are on, and the same bits.
    assert torch.equal(output, activation(features.requires_grad_(True), scalars))


def test_smooth_leaky_relu_has_slopes_one_and_two_tenths_far_from_zero():
    x = torch.tensor([-60.0, -40.0, 0.0, 40.0, 60.0], dtype=torch.float64)
    wanted = torch.tensor([-12.0, -8.0, 0.0, 40.0, 60.0], dtype=torch.float64)
    assert largest(smooth_leaky_relu(x) - wanted) < 1e-12
