"""Wigner D rows of edge frames."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3
from helpers import batch_of, crystal, largest, randn, random_rotation, slab, tiny_config
from narrow_products import NarrowProducts, medium_precision

from eqv2_plugin.geometry.edge_frames import edge_frames
from eqv2_plugin.geometry.irreps import EdgeLayout, degree_slice
from eqv2_plugin.geometry.wigner import (
    rotate_from_edge_frame,
    rotate_to_edge_frame,
    stretched_coupling,
    truncation_scale,
    wigner_rows,
)
from eqv2_plugin.graphs.build import build_graph, edge_vectors, find_edges

LMAX = 8
TRUNCATIONS = [(1, 1), (2, 0), (4, 2), (6, 2), (6, 6), (8, 2), (8, 3)]


def couplings(lmax: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    return [torch.from_numpy(stretched_coupling(l)).to(dtype) for l in range(2, lmax + 1)]


def rows(frames: torch.Tensor, lmax: int, mmax: int) -> list[torch.Tensor]:
    return wigner_rows(frames, EdgeLayout(lmax, mmax), couplings(lmax, frames.dtype))


def edges() -> torch.Tensor:
    axes = torch.cat((torch.eye(3), -torch.eye(3))).double()
    near_poles = torch.tensor([[1e-4, 1, 0], [0, -1, 1e-5], [1e-8, 1, 1e-8], [0, -1, 1e-12]])
    return torch.cat((axes, near_poles.double(), randn(0, 30, 3)))


def frames() -> torch.Tensor:
    rotations = torch.stack([random_rotation(seed) for seed in range(10)])
    return torch.cat((edge_frames(edges()), rotations))


def harmonics(vectors: torch.Tensor, lmax: int = LMAX) -> torch.Tensor:
    degrees = list(range(lmax + 1))
    return o3.spherical_harmonics(degrees, vectors, normalize=True, normalization="component")


def test_coupling_onto_the_stretched_degree_is_orthonormal():
    for degree in range(2, LMAX + 1):
        matrix = torch.from_numpy(stretched_coupling(degree)).flatten(1)
        assert largest(matrix @ matrix.T - torch.eye(2 * degree + 1)) < 1e-14


def test_blocks_are_orthogonal_matrices():
    for degree, block in enumerate(rows(frames(), LMAX, LMAX)):
        identity = torch.eye(2 * degree + 1, dtype=torch.float64)
        assert largest(block @ block.transpose(1, 2) - identity) < 1e-13


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_rotated_harmonics_are_harmonics_of_the_rotated_vector(seed):
    vector = randn(seed, 1, 3)
    rotated = harmonics(torch.einsum("eij,j->ei", frames(), vector[0]))
    before = harmonics(vector)
    for degree, block in enumerate(rows(frames(), LMAX, LMAX)):
        part = degree_slice(degree)
        assert largest(torch.einsum("eij,j->ei", block, before[0, part]) - rotated[:, part]) < 1e-12


def test_blocks_of_a_product_are_products_of_blocks():
    first, second = random_rotation(1).unsqueeze(0), random_rotation(2).unsqueeze(0)
    product = rows(first @ second, LMAX, LMAX)
    factors = zip(rows(first, LMAX, LMAX), rows(second, LMAX, LMAX), strict=True)
    for block, (left, right) in zip(product, factors, strict=True):
        assert largest(block - left @ right) < 1e-13


@pytest.mark.parametrize(("lmax", "mmax"), TRUNCATIONS)
def test_truncated_rows_are_rows_of_the_full_matrices(lmax, mmax):
    full, cut = rows(frames(), lmax, lmax), rows(frames(), lmax, mmax)
    assert len(cut) == lmax + 1
    for degree, (block, part) in enumerate(zip(full, cut, strict=True)):
        kept = min(degree, mmax)
        assert part.shape[1] == 2 * kept + 1
        assert largest(part - block[:, degree - kept : degree + kept + 1]) < 1e-14


@pytest.mark.parametrize(("lmax", "mmax"), TRUNCATIONS)
def test_float32_rows_stay_accurate_next_to_the_poles(lmax, mmax):
    offsets = torch.logspace(-1, -12, 12, dtype=torch.float64)
    near = torch.stack((offsets, torch.ones(12).double(), -0.4 * offsets), dim=1)
    vectors = torch.cat((near, near * torch.tensor([1.0, -1.0, 1.0]))).float()
    exact = rows(edge_frames(vectors.double()), lmax, mmax)
    for single, double in zip(rows(edge_frames(vectors), lmax, mmax), exact, strict=True):
        assert largest(single.double() - double) < 3e-6


@pytest.mark.parametrize(("lmax", "mmax"), TRUNCATIONS)
def test_harmonics_of_an_edge_keep_only_order_zero_in_its_frame(lmax, mmax):
    layout = EdgeLayout(lmax, mmax)
    features = harmonics(edges(), lmax).unsqueeze(2)
    rotated = rotate_to_edge_frame((features,), rows(edge_frames(edges()), lmax, mmax), layout)
    polar = torch.tensor([(2 * l + 1) ** 0.5 for l in range(lmax + 1)], dtype=torch.float64)
    assert largest(rotated[:, : lmax + 1, 0] - polar) < 1e-12
    assert float(rotated[:, lmax + 1 :].abs().sum()) < 1e-11


@pytest.mark.parametrize(("lmax", "mmax"), TRUNCATIONS)
def test_rotation_helpers_equal_block_diagonal_products(lmax, mmax):
    layout = EdgeLayout(lmax, mmax)
    blocks = rows(frames(), lmax, mmax)
    num = len(frames())
    first, second = randn(1, num, (lmax + 1) ** 2, 3), randn(2, num, (lmax + 1) ** 2, 3)
    both = torch.cat((first, second), dim=2)
    rotated = rotate_to_edge_frame((first, second), blocks, layout)
    assert rotated.shape == (num, layout.size, 6)
    for degree, block in enumerate(blocks):
        wanted = block @ both[:, degree_slice(degree)]
        assert largest(rotated[:, layout.rows_within_degree(degree)] - wanted) < 1e-13
    back = rotate_from_edge_frame(rotated, blocks, layout)
    for degree, block in enumerate(blocks):
        picked = rotated[:, layout.rows_within_degree(degree)]
        wanted = truncation_scale(degree, mmax) * block.transpose(1, 2) @ picked
        assert largest(back[:, degree_slice(degree)] - wanted) < 1e-13


@medium_precision()
def test_reduced_precision_rounds_neither_rows_nor_their_derivative():
    vectors = edges().float().requires_grad_()
    with NarrowProducts() as products:
        found = rows(edge_frames(vectors), 4, 2)
        (slope,) = torch.autograd.grad(sum(b.square().sum(0).sum() for b in found), vectors)
    assert not products.found
    assert slope.dtype == torch.float32
    exact = rows(edge_frames(vectors.detach()).double(), 4, 2)
    for one, other in zip(found, exact, strict=True):
        assert one.dtype == torch.float32
        assert largest(one.double() - other) < 3e-7


@medium_precision()
def test_reduced_precision_rounds_no_edge_of_periodic_structures():
    data = batch_of(crystal(), slab(), dtype=torch.float32)
    data.cell.requires_grad_()
    with NarrowProducts() as products:
        graph = build_graph(data, tiny_config())
        torch.autograd.grad(graph.vectors.square().sum(), data.cell)
    assert not products.found
    assert torch.get_float32_matmul_precision() == "medium"
    topology = find_edges(data, tiny_config())
    exact = edge_vectors(topology._replace(images=topology.images.double()),
                         data.pos.double(), data.cell.detach().double())  # fmt: skip
    assert largest(graph.vectors.double() - exact) < 2e-6
