"""What TF32 must not round beside edges and Wigner matrices: statistics, frames, stress, sums."""

from __future__ import annotations

import pytest
import torch
from helpers import largest, randn
from narrow_products import NarrowProducts, medium_precision

from eqv2_plugin.backbones.equiformer_v1.edges import Rotations
from eqv2_plugin.heads.conservative import forces_and_stress
from eqv2_plugin.heads.joined_stress import TensorBasis
from eqv2_plugin.kernels.gather import gather_few_by_product
from eqv2_plugin.layers.norms import make_norm


def norm(features: torch.Tensor) -> torch.Tensor:
    return make_norm("layer_norm", 3, 8).to(features.dtype)(features)


def frames(vectors: torch.Tensor) -> torch.Tensor:
    blocks = Rotations(3).to(vectors.dtype)(vectors)
    return torch.cat([block.flatten(1) for block in blocks], dim=1)


def stress(tensor: torch.Tensor) -> torch.Tensor:
    """Of two structures, whose energy is some function of positions and cells, [12 + 6, 3]."""
    pos, cell = tensor.split([12, 6])
    data = {
        "pos": pos,
        "cell": torch.eye(3, dtype=cell.dtype) * 4 + 0.3 * cell.view(2, 3, 3),
        "batch": torch.arange(2).repeat_interleave(6),
    }
    of_atoms = data["pos"].square().sum(1).view(2, 6).sum(1)
    energy = of_atoms.sin() + data["cell"].square().sum((1, 2)).cos()
    return forces_and_stress(energy, data, further=True)[1]


def joined(components: torch.Tensor) -> torch.Tensor:
    return TensorBasis().to(components.dtype)(components)


def cells(table: torch.Tensor) -> torch.Tensor:
    return gather_few_by_product(table, torch.tensor([0, 0, 0, 1, 1, 2, 2, 2]))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (norm, (5, 16, 8)),
        (frames, (9, 3)),
        (stress, (18, 3)),
        (joined, (4, 6)),
        (cells, (3, 3, 3)),
    ],
)
def test_neither_values_nor_derivatives_are_rounded(function, shape):
    given = randn(0, *shape)
    found = []
    for dtype in (torch.float32, torch.float64):
        tensor = given.to(dtype).requires_grad_()
        with medium_precision(), NarrowProducts() as products:
            value = function(tensor)
            weights = randn(1, *value.shape).to(value.dtype)
            (slope,) = torch.autograd.grad((value * weights).sum(), tensor)
        assert not products.found
        found.append((value.double(), slope.double()))
    for narrow, exact in zip(*found, strict=True):
        assert largest(narrow - exact) < 3e-6 * largest(exact)
