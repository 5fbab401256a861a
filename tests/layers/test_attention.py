"""Equivariant graph attention: weights, chunks of edges, recomputation, dropout."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from edge_inputs import edge_batch
from helpers import (
    EVERY_ATOM,
    GATE,
    SOME_ISOLATED,
    activations,
    graphs,
    largest,
    node_wigner,
    randn,
    random_rotation,
    randomise,
    tiny_config,
)

from eqv2_plugin.backbones.equiformer_v2.block import make_attention
from eqv2_plugin.kernels.segments import sum_over_neighbours
from eqv2_plugin.layers.attention import EquivariantGraphAttention
from eqv2_plugin.layers.edges import chunk_size

OUT = 7


def make(config, alpha_drop=0.0, out_degree=None) -> EquivariantGraphAttention:
    torch.manual_seed(0)
    layer = make_attention(config, OUT, alpha_drop, out_degree)
    return randomise(layer.double(), seed=1).eval()


def nodes_for(config, counts: list[int], seed: int = 2) -> torch.Tensor:
    return randn(seed, len(counts), (config.lmax + 1) ** 2, config.sphere_channels)


def outputs_and_gradients(layer, nodes, edges, chunk: int | None = None) -> list[torch.Tensor]:
    """Output, and gradients of nodes, edge geometry and every parameter that is not frozen."""
    nodes = nodes.clone().requires_grad_(True)
    basis = edges.basis.clone().requires_grad_(True)
    wigner = [block.clone().requires_grad_(True) for block in edges.wigner[1:]]
    edges = dataclasses.replace(edges, basis=basis, wigner=[edges.wigner[0], *wigner])
    edges = edges.cut(chunk)
    assert (chunk is None) == (len(edges.chunks) == 1)
    output = layer(nodes, edges)
    inputs = [nodes, basis, *wigner, *(p for p in layer.parameters() if p.requires_grad)]
    total = (output * randn(3, *output.shape)).sum()
    return [output, *torch.autograd.grad(total, inputs, materialize_grads=True)]


def assert_same(ours: list[torch.Tensor], reference: list[torch.Tensor]) -> None:
    assert largest(reference[0]) > 0
    for one, other in zip(ours, reference, strict=True):
        assert largest(one - other) <= 1e-13 * max(1.0, largest(other))


@graphs
def test_attention_weights_of_the_neighbours_of_an_atom_sum_to_one(counts):
    config = tiny_config()
    layer, edges = make(config), edge_batch(config, counts)
    alpha = 3 * randn(4, sum(counts), config.num_heads * config.attn_alpha_channels)
    weights = layer._attention_weights(alpha, edges)
    assert weights.shape == (sum(counts), config.num_heads)
    assert float(weights.min()) > 0
    for total, count in zip(
        sum_over_neighbours(weights, edges.target, edges.offsets), counts, strict=True
    ):
        assert largest(total - (1.0 if count else 0.0)) < 1e-14


@graphs
@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("out_degree", [None, 1])
def test_chunks_of_edges_give_the_same_outputs_and_gradients(counts, size, out_degree):
    config = tiny_config(mmax=1)
    layer = make(config, out_degree=out_degree)
    edges, nodes = edge_batch(config, counts), nodes_for(config, counts)
    wanted = outputs_and_gradients(layer, nodes, edges)
    assert_same(outputs_and_gradients(layer, nodes, edges, size), wanted)


@pytest.mark.parametrize("size", [1, 4, None])
@pytest.mark.parametrize("alpha_drop", [0.0, 0.4])
def test_recomputation_gives_the_same_gradients_also_with_dropout(size, alpha_drop):
    config = tiny_config(mmax=1)
    layer = make(config, alpha_drop).train()
    edges, nodes = edge_batch(config, EVERY_ATOM), nodes_for(config, EVERY_ATOM)
    results = []
    for recompute in (False, True):
        torch.manual_seed(11)
        edges = dataclasses.replace(edges, recompute=recompute)
        results.append(outputs_and_gradients(layer, nodes, edges, size))
    assert_same(results[1], results[0])


def test_a_cpu_without_gradients_takes_chunks_and_everything_else_does_not():
    nodes = torch.zeros(1)
    assert torch.is_grad_enabled()
    assert chunk_size(None, nodes) is None
    assert chunk_size(5, nodes) == 5
    assert chunk_size(None, nodes, recompute=True) == 512
    with torch.no_grad():
        assert chunk_size(None, nodes) == 512
        assert chunk_size(5, nodes) == 5
        assert chunk_size(None, torch.zeros(1, device="meta")) is None


def test_more_edges_than_a_chunk_give_the_same_result_without_gradients():
    config = tiny_config(lmax=1, mmax=1)
    counts = [140, 180, 1, 220, 120]
    layer, edges, nodes = make(config), edge_batch(config, counts), nodes_for(config, counts)
    with torch.no_grad():
        pieces = edges.cut(chunk_size(None, nodes))
        assert len(pieces.chunks) > 1
        chunked = layer(nodes, pieces)
    assert largest(chunked - layer(nodes, edges)) < 1e-13


def test_dropout_acts_in_training_only():
    config = tiny_config()
    edges, nodes = edge_batch(config, EVERY_ATOM), nodes_for(config, EVERY_ATOM)
    without, layer = make(config, 0.0), make(config, 0.5)
    assert torch.equal(layer(nodes, edges), without(nodes, edges))
    layer.train()
    torch.manual_seed(0)
    first, second = layer(nodes, edges), layer(nodes, edges)
    assert largest(first - second) > 1e-3
    assert torch.equal(without.train()(nodes, edges), without.eval()(nodes, edges))


@activations
@pytest.mark.parametrize("degree", [0, 1, 2])
def test_one_degree_alone_equals_its_rows_of_the_full_output(options, degree):
    config = tiny_config(mmax=1, **options)
    full, part = make(config), make(config, out_degree=degree)
    part.load_state_dict(full.state_dict())
    edges, nodes = edge_batch(config, EVERY_ATOM), nodes_for(config, EVERY_ATOM)
    wanted = full(nodes, edges)[:, degree * degree : (degree + 1) ** 2]
    assert largest(part(nodes, edges) - wanted) < 1e-13


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_parameters_are_frozen_exactly_if_they_cannot_reach_the_wanted_degree(degree):
    config = tiny_config()
    layer = make(config, out_degree=degree)
    frozen = {name for name, p in layer.named_parameters() if not p.requires_grad}
    edges, nodes = edge_batch(config, EVERY_ATOM), nodes_for(config, EVERY_ATOM)
    layer.requires_grad_(True)
    layer(nodes, edges).square().sum().backward()
    dead = {n for n, p in layer.named_parameters() if p.grad is None or not p.grad.any()}
    assert dead == frozen


@pytest.mark.parametrize("m_share", [False, True])
@pytest.mark.parametrize("mmax", [0, 2, 3])
def test_a_rotation_passes_through_attention_with_gate_activation(m_share, mmax):
    config = tiny_config(lmax=3, mmax=mmax, use_m_share_rad=m_share, **GATE)
    layer, nodes = make(config), nodes_for(config, EVERY_ATOM)
    rotation = random_rotation(5)
    turn = node_wigner(rotation, 3)
    output = layer(nodes, edge_batch(config, EVERY_ATOM))
    rotated = layer(turn @ nodes, edge_batch(config, EVERY_ATOM, rotation=rotation))
    assert largest(rotated - turn @ output) < 1e-11 * largest(output)


def test_an_atom_without_neighbours_receives_only_the_bias():
    config = tiny_config()
    layer, nodes = make(config), nodes_for(config, SOME_ISOLATED)
    output = layer(nodes, edge_batch(config, SOME_ISOLATED))
    alone = [i for i, count in enumerate(SOME_ISOLATED) if count == 0]
    assert torch.equal(output[alone, 0], layer.projection.bias.expand(len(alone), -1))
    assert not output[alone, 1:].any()
