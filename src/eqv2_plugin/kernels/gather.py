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
        selected = one_hot(index, ctx.rows, gradient.dtype)  # [E, rows]
        summed = selected.T @ gradient.flatten(1)
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


# All layers of one backward pass hand over the same two tensors.
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
    version = source._version, target._version
    known = _SORTED.get(source)
    if known is not None and known[0]() is target and known[1] == version:
        order, offsets = known[2:]
        if len(offsets) == nodes + 1:
            return order, offsets
    ends, order = torch.sort(torch.cat((source, target)), stable=True)
    offsets = segment_offsets(ends, nodes)
    _SORTED[source] = TensorWeakRef(target), version, order, offsets
    return order, offsets
