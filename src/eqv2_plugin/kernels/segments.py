"""Sums over the neighbours of an atom, and their reverse, the same bits on every call.

Edges are sorted by target, so the edges of one atom are one segment. A segment is
summed by one thread in order; CUDA's scatter with atomics, in contrast, gives other
bits each time, and its additions to one row wait for each other. Sum and gather are
each other's derivative.
"""

from __future__ import annotations

import torch


class _SegmentSum(torch.autograd.Function):
    """Sum of consecutive rows. Its derivative is a gather, whose derivative it is in turn."""

    @staticmethod
    def forward(ctx, values: torch.Tensor, target: torch.Tensor, offsets: torch.Tensor):
        ctx.save_for_backward(target, offsets)
        return torch.segment_reduce(values, "sum", offsets=offsets, unsafe=True, initial=0.0)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        return _TargetGather.apply(gradient, *ctx.saved_tensors), None, None


class _TargetGather(torch.autograd.Function):
    """``values[target]``, the derivative of `_SegmentSum`, which is its own."""

    @staticmethod
    def forward(ctx, values: torch.Tensor, target: torch.Tensor, offsets: torch.Tensor):
        ctx.save_for_backward(target, offsets)
        return values.index_select(0, target)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        wide = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        return sum_of_segments(wide, *ctx.saved_tensors).to(gradient.dtype), None, None


def segment_offsets(target: torch.Tensor, num_nodes: int) -> torch.Tensor:
    """First edge of every node and the end, [num_nodes + 1], from sorted targets."""
    nodes = torch.arange(num_nodes + 1, device=target.device)
    return torch.searchsorted(target, nodes)


def sum_over_neighbours(
    values: torch.Tensor, target: torch.Tensor, offsets: torch.Tensor
) -> torch.Tensor:
    """Sum edge values at their target node.

    Args:
        values: [E, ...].
        target: [E], ascending.
        offsets: from `segment_offsets`.

    Returns:
        [num_nodes, ...]; zero for a node without edges.
    """
    # Sums over many neighbours in bfloat16 would lose digits that autocast need not cost.
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    if values.device.type == "cpu":
        # On a CPU index_add_ visits the rows in order, too, and uses all threads.
        shape = (offsets.shape[0] - 1, *values.shape[1:])
        return values.new_zeros(shape).index_add_(0, target, values)
    return sum_of_segments(values, target, offsets)


def sum_of_segments(
    values: torch.Tensor, target: torch.Tensor, offsets: torch.Tensor
) -> torch.Tensor:
    """`sum_over_neighbours` without atomics, for GPUs."""
    flat = _SegmentSum.apply(values.unsqueeze(-1).flatten(1), target, offsets)
    return flat.view(flat.shape[0], *values.shape[1:])


def gather_at_targets(
    values: torch.Tensor, target: torch.Tensor, offsets: torch.Tensor
) -> torch.Tensor:
    """``values[target]``, the reverse of `sum_over_neighbours`, and its derivative.

    Args:
        values: [num_nodes, ...].
        target: [E], ascending.
        offsets: from `segment_offsets`.

    Returns:
        [E, ...].
    """
    if values.device.type == "cpu":
        return values.index_select(0, target)
    return gather_from_segments(values, target, offsets)


def gather_from_segments(
    values: torch.Tensor, target: torch.Tensor, offsets: torch.Tensor
) -> torch.Tensor:
    """`gather_at_targets` without atomics in its derivatives, for GPUs."""
    return _TargetGather.apply(values, target, offsets)


def softmax_over_neighbours(
    logits: torch.Tensor, target: torch.Tensor, offsets: torch.Tensor
) -> torch.Tensor:
    """Softmax over the edges of each target node (section 3.2).

    Args:
        logits: [E, H].
        target: [E], ascending.
        offsets: from `segment_offsets`.

    Returns:
        [E, H], summing to 1 over the edges of a node.
    """
    num_nodes = offsets.shape[0] - 1
    index = target.unsqueeze(1).expand_as(logits)
    largest = logits.new_full((num_nodes, logits.shape[1]), float("-inf"))
    largest.scatter_reduce_(0, index, logits.detach(), "amax")
    weights = torch.exp(logits - largest.index_select(0, target))
    sums = sum_over_neighbours(weights, target, offsets)
    return weights / (gather_at_targets(sums, target, offsets) + 1e-16)
