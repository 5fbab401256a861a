"""Gathers whose derivatives do not collide, and that training uses no others."""

from __future__ import annotations

import pytest
import torch
from helpers import generator, graphs, randn, targets_of

from eqv2_plugin.kernels.gather import (
    edges_of_nodes,
    gather_at_sources,
    gather_at_sources_sorted,
    gather_ends,
    gather_ends_sorted,
    gather_few,
    gather_few_by_product,
)
from eqv2_plugin.kernels.segments import (
    gather_at_targets,
    gather_from_segments,
    segment_offsets,
)


def derivatives(function, table: torch.Tensor) -> None:
    """First and second ones of a function that is not linear in the gathered rows."""
    table = table.requires_grad_(True)
    assert torch.autograd.gradcheck(function, table)
    assert torch.autograd.gradgradcheck(lambda x: function(x * x).square(), table)


@pytest.mark.parametrize("function", [gather_few, gather_few_by_product])
@pytest.mark.parametrize("dim", [0, 1])
def test_rows_of_small_tables(function, dim):
    table, index = randn(0, 4, 5, 2), torch.tensor([3, 0, 3, 3, 1])
    assert torch.equal(function(table, index, dim), table.index_select(dim, index))
    derivatives(lambda x: function(x, index, dim), table)


@graphs
@pytest.mark.parametrize("function", [gather_at_targets, gather_from_segments])
def test_nodes_by_target(function, counts):
    target = targets_of(counts)
    offsets, nodes = segment_offsets(target, len(counts)), randn(1, len(counts), 2, 3)
    assert torch.equal(function(nodes, target, offsets), nodes[target])
    derivatives(lambda x: function(x, target, offsets), nodes)


@graphs
@pytest.mark.parametrize("function", [gather_ends, gather_ends_sorted])
def test_nodes_at_both_ends(function, counts):
    target = targets_of(counts)
    source = torch.randint(len(counts), target.shape, generator=generator(2))
    nodes = randn(3, len(counts), 2, 2)
    wanted = torch.cat((nodes[source], nodes[target]), dim=2)
    assert torch.equal(function(nodes, source, target), wanted)
    derivatives(lambda x: function(x, source, target), nodes)


@graphs
@pytest.mark.parametrize("function", [gather_at_sources, gather_at_sources_sorted])
def test_nodes_by_source(function, counts):
    source = torch.randint(len(counts), (sum(counts),), generator=generator(4))
    nodes = randn(5, len(counts), 2, 2)
    assert torch.equal(function(nodes, source), nodes[source])
    derivatives(lambda x: function(x, source), nodes)


def test_gradients_of_bfloat16_are_summed_in_float32():
    source = target = torch.zeros(1000, dtype=torch.long)
    nodes = torch.zeros(1, 1, 1).bfloat16().requires_grad_()
    gather_ends_sorted(nodes, source, target).sum().backward()
    assert nodes.grad.dtype == torch.bfloat16
    assert nodes.grad.item() == 2000.0


def test_edges_that_changed_are_sorted_again():
    source, target = torch.tensor([2, 0, 2]), torch.tensor([0, 1, 1])
    first = edges_of_nodes(source, target, 3)
    assert edges_of_nodes(source, target, 3)[0] is first[0]
    # Another use of the same sources does not push it out.
    nodes = torch.ones(3, 1, requires_grad=True)
    gather_at_sources_sorted(nodes, source).sum().backward()
    assert nodes.grad.flatten().tolist() == [1.0, 0.0, 2.0]
    assert edges_of_nodes(source, target, 3)[0] is first[0]
    source.copy_(torch.tensor([1, 1, 1]))
    assert edges_of_nodes(source, target, 3)[1].tolist() == [0, 1, 6, 6]
