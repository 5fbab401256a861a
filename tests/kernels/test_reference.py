"""The two ways in which the reference implementation rotates."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers import largest, randn
from kernel_inputs import SomeEdges, random_edges

from eqv2_plugin.kernels.interface import RadialWeights
from eqv2_plugin.kernels.reference import REFERENCE


def results(edges: SomeEdges, nodes: torch.Tensor, values: torch.Tensor) -> list[torch.Tensor]:
    layout, channels = edges.layout, 2 * nodes.shape[2]
    radial = randn(3, len(edges.source), layout.radial_size(channels, shared=False))
    weights = RadialWeights(lambda columns: radial[:, columns], layout, channels, shared=False)
    blocks = REFERENCE.gather_rotate_scale(nodes, edges, weights)
    attention = randn(4, len(edges.source), 2)
    summed = REFERENCE.weigh_rotate_sum(values, attention, edges, None)
    return [*(part for block in blocks for part in block), summed]


@pytest.mark.parametrize(("lmax", "mmax"), [(2, 2), (3, 0), (4, 2), (6, 3)])
def test_one_matrix_per_edge_rotates_as_a_block_per_degree(lmax, mmax):
    blocks = random_edges(lmax, mmax, count=37)
    blocks = dataclasses.replace(blocks, wigner=[block.double() for block in blocks.wigner])
    whole = dataclasses.replace(blocks, packed=REFERENCE.pack(blocks.wigner))
    assert whole.packed is not None
    nodes = randn(1, 12, (lmax + 1) ** 2, 3)
    values = randn(2, len(blocks.source), blocks.layout.size, 4)
    for ours, wanted in zip(
        results(whole, nodes, values), results(blocks, nodes, values), strict=True
    ):
        assert largest(ours - wanted) < 1e-13
