"""Radial basis and radial functions."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import generator, largest, randn, randomise

from eqv2_plugin.layers.radial import (
    AtomPairEmbedding,
    EndElements,
    GaussianBasis,
    LearnableGaussianBasis,
    RadialFunction,
)

NUM_BASIS, CHANNELS, ELEMENTS, OUT = 7, 5, 20, 9


def elements(as_product: bool = False) -> EndElements:
    """Of 30 edges; picked as on a CPU, or with the matrix of a GPU."""
    source = torch.randint(ELEMENTS, (30,), generator=generator(1))
    target = torch.randint(ELEMENTS, (30,), generator=generator(2))
    matrix = torch.zeros(30, 2 * ELEMENTS, dtype=torch.float64)
    matrix[range(30), source] = matrix[range(30), ELEMENTS + target] = 1.0
    return EndElements(source, target, matrix if as_product else None)


def swapped(given: EndElements) -> EndElements:
    return EndElements(given.target, given.source)


def twin(radial: RadialFunction, inputs: torch.Tensor) -> torch.Tensor:
    """The same network on the whole concatenated input."""
    functional = torch.nn.functional
    hidden = functional.silu(radial.norm_1(radial.hidden_1(inputs)))
    hidden = functional.silu(radial.norm_2(radial.hidden_2(hidden)))
    return radial.output(hidden)


@pytest.mark.parametrize("as_product", [False, True])
def test_tabulated_atom_pairs_equal_the_concatenated_input(as_product):
    radial = randomise(RadialFunction(NUM_BASIS, CHANNELS, OUT, True).double(), seed=3)
    pairs = randomise(AtomPairEmbedding(ELEMENTS, CHANNELS).double(), seed=4)
    ends, basis = elements(as_product), randn(5, 30, NUM_BASIS)
    concatenated = torch.cat((basis, pairs.source(ends.source), pairs.target(ends.target)), dim=1)
    output, wanted = radial(basis, ends, pairs), twin(radial, concatenated)
    assert largest(output - wanted) < 1e-12

    parameters = [*radial.parameters(), *pairs.parameters()]
    weights = randn(6, *output.shape)
    gradients = torch.autograd.grad((output * weights).sum(), parameters)
    for ours, theirs in zip(
        gradients, torch.autograd.grad((wanted * weights).sum(), parameters), strict=True
    ):
        assert largest(ours - theirs) < 1e-12


def test_without_atom_pairs_elements_do_not_matter():
    radial = randomise(RadialFunction(NUM_BASIS, CHANNELS, OUT, False).double(), seed=3)
    basis = randn(5, 30, NUM_BASIS)
    output = radial(basis, elements(), None)
    assert largest(output - twin(radial, basis)) < 1e-13
    assert torch.equal(output, radial(basis, swapped(elements()), None))


def test_source_and_target_elements_play_different_parts():
    radial = randomise(RadialFunction(NUM_BASIS, CHANNELS, OUT, True).double(), seed=3)
    pairs = randomise(AtomPairEmbedding(ELEMENTS, CHANNELS).double(), seed=4)
    basis = randn(5, 30, NUM_BASIS)
    other = radial(basis, swapped(elements()), pairs)
    assert largest(radial(basis, elements(), pairs) - other) > 1e-2


@pytest.mark.parametrize(("cutoff", "num_basis"), [(12.0, 600), (5.0, 2), (6.0, 32)])
def test_gaussians_stand_evenly_up_to_the_cutoff_twice_as_wide_as_their_spacing(cutoff, num_basis):
    basis = GaussianBasis(cutoff, num_basis).double()
    distances = torch.linspace(0.3, 1.2 * cutoff, 17, dtype=torch.float64)
    spacing = cutoff / (num_basis - 1)
    output = basis(distances)
    for i, distance in enumerate(distances.tolist()):
        for k in range(num_basis):
            wanted = math.exp(-0.5 * ((distance - k * spacing) / (2 * spacing)) ** 2)
            assert abs(float(output[i, k]) - wanted) < 1e-13


def test_far_gaussians_are_no_numbers_that_slow_a_processor_down():
    values = GaussianBasis(6.0, 600)(torch.linspace(0.5, 5.5, 11))
    assert float(values.min()) > torch.finfo(torch.float32).tiny
    assert float(values.min()) < 1e-25


def test_learnable_gaussians_equal_their_formula():
    basis = randomise(LearnableGaussianBasis(5.0, 6).double(), seed=7)
    with torch.no_grad():
        # Training may carry a width across zero.
        basis.std[0, 2] = -0.3
    distances = torch.linspace(0.5, 4.9, 9, dtype=torch.float64)
    output = basis(distances).detach()
    scale, shift = float(basis.weight), float(basis.bias)
    for i, distance in enumerate(distances.tolist()):
        for k in range(6):
            width = abs(float(basis.std[0, k])) + 1e-5
            offset = (scale * distance / 5.0 + shift - float(basis.mean[0, k])) / width
            wanted = math.exp(-0.5 * offset**2) / (math.sqrt(2 * 3.14159) * width)
            assert abs(float(output[i, k]) - wanted) < 1e-12 * max(1.0, wanted)


def test_learnable_gaussians_learn_all_their_parameters():
    basis = randomise(LearnableGaussianBasis(5.0, 6).double(), seed=7)
    basis(randn(8, 10).abs() + 0.5).square().sum().backward()
    assert all(largest(parameter.grad) > 0 for parameter in basis.parameters())
