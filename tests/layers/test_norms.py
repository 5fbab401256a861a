"""Normalisations against loops over atoms, degrees and channels."""

from __future__ import annotations

import pytest
import torch
from helpers import largest, node_wigner, randn, random_rotation, randomise

from eqv2_plugin.geometry.irreps import degree_slice
from eqv2_plugin.layers.norms import make_norm

EPSILON = 1e-5
CHANNELS = 6
KINDS = ["layer_norm", "layer_norm_sh", "rms_norm_sh"]
kinds = pytest.mark.parametrize("kind", KINDS)


def make(kind: str, lmax: int) -> torch.nn.Module:
    return randomise(make_norm(kind, lmax, CHANNELS).double(), seed=1)


def features(lmax: int) -> torch.Tensor:
    return 3 * randn(2, 4, (lmax + 1) ** 2, CHANNELS) + 0.5


def mean_square(block: torch.Tensor) -> torch.Tensor:
    """Over orders and channels of one degree of one atom."""
    return sum(value**2 for row in block for value in row) / block.numel()


def twin(kind: str, norm: torch.nn.Module, atom: torch.Tensor, lmax: int) -> torch.Tensor:
    """One atom [(lmax+1)^2, C]."""
    scalars = atom[0] - atom[0].mean()
    output = torch.empty_like(atom)
    if kind == "layer_norm_sh":
        scale = 1 / torch.sqrt((scalars**2).mean() + EPSILON)
        output[0] = scalars * scale * norm.scalar_norm.weight + norm.scalar_norm.bias
        squares = [mean_square(atom[degree_slice(l)]) for l in range(1, lmax + 1)]
        for l in range(1, lmax + 1):
            common = torch.sqrt(sum(squares) / lmax + EPSILON)
            output[degree_slice(l)] = atom[degree_slice(l)] / common * norm.weight[l - 1]
        return output
    blocks = [scalars.unsqueeze(0)] + [atom[degree_slice(l)] for l in range(1, lmax + 1)]
    squares = [mean_square(block) for block in blocks]
    for l, block in enumerate(blocks):
        square = squares[l] if kind == "layer_norm" else sum(squares) / (lmax + 1)
        output[degree_slice(l)] = block / torch.sqrt(square + EPSILON) * norm.weight[l]
    output[0] += norm.bias
    return output


@kinds
@pytest.mark.parametrize("lmax", [0, 1, 3, 6])
def test_norm_equals_its_definition_written_as_loops(kind, lmax):
    norm, x = make(kind, lmax), features(lmax)
    with torch.no_grad():
        wanted = torch.stack([twin(kind, norm, atom, lmax) for atom in x])
        assert largest(norm(x) - wanted) < 1e-13


@kinds
@pytest.mark.parametrize("lmax", [2, 6])
def test_a_rotation_passes_through_the_norm(kind, lmax):
    norm, turn = make(kind, lmax), node_wigner(random_rotation(3), lmax)
    x = features(lmax)
    assert largest(norm(turn @ x) - turn @ norm(x)) < 1e-12


@kinds
def test_features_that_vanish_stay_finite_with_finite_gradients(kind):
    norm = make(kind, 2)
    x = features(2)
    x[1] = 0.0
    x.requires_grad_(True)
    output = norm(x)
    (gradient,) = torch.autograd.grad(output.square().sum(), x)
    assert torch.isfinite(output).all()
    assert torch.isfinite(gradient).all()


@kinds
def test_statistics_keep_float32_under_autocast(kind):
    norm = make(kind, 2).float()
    x = features(2).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        output = norm(x)
    assert output.dtype == torch.float32
    assert torch.equal(output, norm(x.float()))


def test_an_unknown_norm_is_refused_with_the_known_names():
    with pytest.raises(ValueError, match="layer_norm_sh"):
        make_norm("batch_norm", 2, CHANNELS)
