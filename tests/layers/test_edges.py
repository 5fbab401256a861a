"""Edge batches and the embedding of an atom's surroundings."""

from __future__ import annotations

import pytest
import torch
from edge_inputs import edge_batch
from helpers import (
    EVERY_ATOM,
    generator,
    graphs,
    largest,
    node_wigner,
    random_rotation,
    randomise,
    tiny_config,
)

from eqv2_plugin.backbones.equiformer_v2.block import radial_options
from eqv2_plugin.geometry.irreps import EdgeLayout, degree_of_row
from eqv2_plugin.geometry.wigner import truncation_scale
from eqv2_plugin.layers.edge_degree import EdgeDegreeEmbedding
from eqv2_plugin.layers.edges import sort_by_target


@graphs
@pytest.mark.parametrize("size", [1, 3, 7, 20, 1000, None])
def test_chunks_cover_edges_and_atoms_once_without_splitting_an_atom(counts, size):
    edges = edge_batch(tiny_config(), counts)
    chunks = edges.cut(size).chunks
    assert torch.equal(torch.cat([chunk.source for chunk in chunks]), edges.source)
    assert torch.equal(torch.cat([chunk.target for chunk in chunks]), edges.target)
    assert torch.equal(torch.cat([chunk.basis for chunk in chunks]), edges.basis)
    found = []
    for chunk in chunks:
        assert chunk.first_target == len(found)
        sizes = chunk.offsets.diff().tolist()
        assert torch.equal(
            chunk.local_target,
            torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)),
        )
        # Larger than asked for only if a single atom has that many edges.
        assert size is None or sum(sizes) <= size or sizes.count(0) == len(sizes) - 1
        found += sizes
    assert found == counts


def test_edges_are_sorted_by_target_and_keep_their_order_within_a_target():
    index = torch.randint(6, (2, 40), generator=generator(0))
    order, offsets = sort_by_target(index, 8)
    pairs = list(zip(index[1, order].tolist(), order.tolist(), strict=True))
    assert pairs == sorted(pairs)
    assert offsets.diff().tolist() == torch.bincount(index[1], minlength=8).tolist()


def embedding(mmax: int, kind: str = "per_block") -> tuple[EdgeDegreeEmbedding, object]:
    config = tiny_config(lmax=3, mmax=mmax, atom_edge_embedding=kind)
    torch.manual_seed(0)
    embedding = EdgeDegreeEmbedding(
        EdgeLayout(config.lmax, mmax),
        config.sphere_channels,
        radial_options(config),
        config.avg_degree,
    )
    return randomise(embedding.double(), seed=1), config


@graphs
@pytest.mark.parametrize("mmax", [0, 2, 3])
def test_edge_degree_embedding_sums_order_zero_of_every_edge_turned_back(counts, mmax):
    layer, config = embedding(mmax)
    edges = edge_batch(config, counts)
    weights = layer.radial(edges.basis, edges.elements, layer.atom_pairs)
    weights = weights.view(-1, config.lmax + 1, config.sphere_channels)
    wanted = torch.zeros(len(counts), (config.lmax + 1) ** 2, config.sphere_channels).double()
    for edge, atom in enumerate(edges.target.tolist()):
        for row, degree in enumerate(degree_of_row(config.lmax)):
            block = edges.wigner[degree][edge]
            polar = block[block.shape[0] // 2, row - degree * degree]
            value = truncation_scale(degree, mmax) * polar * weights[edge, degree]
            wanted[atom, row] += value / config.avg_degree
    assert largest(layer(edges) - wanted) < 1e-13


@pytest.mark.parametrize("mmax", [0, 2, 3])
def test_a_rotation_of_the_edges_turns_the_edge_degree_embedding(mmax):
    layer, config = embedding(mmax)
    rotation = random_rotation(4)
    output = layer(edge_batch(config, EVERY_ATOM))
    rotated = layer(edge_batch(config, EVERY_ATOM, rotation=rotation))
    assert largest(rotated - node_wigner(rotation, 3) @ output) < 1e-12
