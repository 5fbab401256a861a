"""Rows of a table by index, with derivatives in which no two additions meet.

torch differentiates ``table[index]`` by adding to the table's rows, many at a time: on a GPU
additions to one row wait for each other, which was more than half of a training step. Here they
are products with one-hot matrices where a table has few rows, and sums over the edges of each node
in their order, as in `segments`. On a CPU, ``index_select`` and its derivative visit rows in
order, and are the fastest.
"""

from __future__ import annotations

import torch
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary

from eqv2_plugin.common.tracing import is_traced
from eqv2_plugin.geometry.exact import exact_dtype
from eqv2_plugin.kernels.segments import segment_offsets, sum_of_segments


def gather_few(table: torch.Tensor, index: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """``table.index_select(dim, index)`` of a table with few rows: of elements, or of degrees.

    Args:
        table: any shape.
        index: [E].
        dim: along which rows are taken.
    """
    if table.device.type == "cpu":
        return table.index_select(dim, index)
    return gather_few_by_product(table, index, dim)


def gather_few_by_product(table: torch.Tensor, index: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """`gather_few` whose derivative is a product with a one-hot matrix, for GPUs."""
    return _GatherFew.apply(table.movedim(dim, 0), index).movedim(0, dim)


def one_hot(index: torch.Tensor, rows: int, dtype: torch.dtype) -> torch.Tensor:
    """[..., rows] from [...]; `torch.nn.functional.one_hot` would wait for the device."""
    return (index.unsqueeze(-1) == torch.arange(rows, device=index.device)).to(dtype)


class _GatherFew(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table: torch.Tensor, index: torch.Tensor):
        ctx.save_for_backward(index)
        ctx.rows = table.shape[0]
        return table.index_select(0, index)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        (index,) = ctx.saved_tensors
        # Some tables are cells, whose gradient is the stress.
        exact = exact_dtype(gradient.dtype, gradient.device.type)
        selected = one_hot(index, ctx.rows, exact)  # [E, rows]
        summed = (selected.T @ gradient.flatten(1).to(exact)).to(gradient.dtype)
        return summed.view(ctx.rows, *gradient.shape[1:]), None


def gather_ends(nodes: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Node features of both ends of every edge, sources before targets along the channels.

    Args:
        nodes: [N, K, C].
        source, target: [E].

    Returns:
        [E, K, 2C].
    """
    if nodes.device.type == "cpu" or is_traced():
        return _both(nodes, source, target)
    return gather_ends_sorted(nodes, source, target)


def gather_ends_sorted(
    nodes: torch.Tensor, source: torch.Tensor, target: torch.Tensor
) -> torch.Tensor:
    """`gather_ends` whose derivative sums the edges of each node in order, for GPUs."""
    return _GatherEnds.apply(nodes, source, target)


def _both(nodes: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return torch.cat((nodes.index_select(0, source), nodes.index_select(0, target)), dim=2)


class _GatherEnds(torch.autograd.Function):
    @staticmethod
    def forward(ctx, nodes: torch.Tensor, source: torch.Tensor, target: torch.Tensor):
        ctx.save_for_backward(source, target)
        ctx.nodes = nodes.shape[0]
        return _both(nodes, source, target)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        return _SumEnds.apply(gradient, *ctx.saved_tensors, ctx.nodes), None, None


class _SumEnds(torch.autograd.Function):
    """The transpose of `_GatherEnds`, and its derivative."""

    @staticmethod
    def forward(ctx, values: torch.Tensor, source: torch.Tensor, target: torch.Tensor, nodes: int):
        ctx.save_for_backward(source, target)
        order, offsets = edges_of_nodes(source, target, nodes)
        ends = values.unflatten(2, (2, -1)).transpose(1, 2)  # [E, 2, K, C]
        count = source.shape[0]
        ordered = ends[order % count, order // count]  # [2E, K, C]
        wide = ordered.to(torch.promote_types(values.dtype, torch.float32))
        return sum_of_segments(wide, order, offsets).to(values.dtype)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        return _GatherEnds.apply(gradient, *ctx.saved_tensors), None, None, None


def gather_at_sources(nodes: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """``nodes[source]``; `segments.gather_at_targets` is for the other end.

    Args:
        nodes: [N, ...].
        source: [E], in any order.

    Returns:
        [E, ...].
    """
    if nodes.device.type == "cpu" or is_traced():
        return nodes.index_select(0, source)
    return gather_at_sources_sorted(nodes, source)


def gather_at_sources_sorted(nodes: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """`gather_at_sources` whose derivative sums the edges of each node in order, for GPUs."""
    return _GatherSources.apply(nodes, source)


class _GatherSources(torch.autograd.Function):
    @staticmethod
    def forward(ctx, nodes: torch.Tensor, source: torch.Tensor):
        ctx.save_for_backward(source)
        ctx.nodes = nodes.shape[0]
        return nodes.index_select(0, source)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        return _SumSources.apply(gradient, *ctx.saved_tensors, ctx.nodes), None


class _SumSources(torch.autograd.Function):
    """The transpose of `_GatherSources`, and its derivative."""

    @staticmethod
    def forward(ctx, values: torch.Tensor, source: torch.Tensor, nodes: int):
        ctx.save_for_backward(source)
        order, offsets = _sorted((source,), nodes)
        wide = values.index_select(0, order).to(torch.promote_types(values.dtype, torch.float32))
        return sum_of_segments(wide, order, offsets).to(values.dtype)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        return _GatherSources.apply(gradient, *ctx.saved_tensors), None, None


# All layers of one backward pass hand over the same tensors. By source: what was sorted with it.
_SORTED: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def edges_of_nodes(
    source: torch.Tensor, target: torch.Tensor, nodes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The edges that each node is an end of; remembered while ``source`` lives.

    Args:
        source, target: [E] nodes.
        nodes: number of nodes, N.

    Returns:
        [2E] edges where a node is the source (e) or the target (E + e), node after node, in
        ascending order; and [N + 1] where those of each node begin.
    """
    return _sorted((source, target), nodes)


def _sorted(ends: tuple[torch.Tensor, ...], nodes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of one or both ends of all edges: their order by node, and where each node's begin."""
    versions = [end._version for end in ends]
    known = _SORTED.setdefault(ends[0], {})
    if len(ends) in known:
        others, of_versions, order, offsets = known[len(ends)]
        same = all(one() is end for one, end in zip(others, ends[1:], strict=True))
        if same and of_versions == versions and len(offsets) == nodes + 1:
            return order, offsets
    by_node, order = torch.sort(torch.cat(ends), stable=True)
    offsets = segment_offsets(by_node, nodes)
    known[len(ends)] = [TensorWeakRef(end) for end in ends[1:]], versions, order, offsets
    return order, offsets
