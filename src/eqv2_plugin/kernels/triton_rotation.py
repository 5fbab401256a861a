"""Triton kernels: node features into edge frames, times radial weights; and its derivative.

Forward, one program takes one end of one edge and a block of channels. Per degree it keeps the
2l + 1 node rows in registers and makes every kept row of the edge frame from them; entries of the
Wigner matrix are scalars. Nothing but the inputs and the result touches the memory.

Backward, radial weights take one pass of the same shape. Gradients of nodes would need atomic
additions there, whose order, and so the last bits, would change from run to run. Instead a second
pass has one program per node and degree, which adds up what the node's edges give in a fixed
order; it needs the edges of every node, sorted once per forward pass of the model.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable
from torch.utils.weak import TensorWeakRef, WeakTensorKeyDictionary

from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.kernels.tables import radial_blocks
from eqv2_plugin.kernels.triton_common import (
    add_turned_back,
    channel_blocks,
    launch,
    load_degree,
    row_constants,
    store_degree,
    turn,
    zeros,
)

# Channels of one program: four per thread of its single warp, and two where one program stands
# for a whole node, of which there are fewer.
_EDGE_WIDTH, _NODE_WIDTH = 128, 64


@triton.jit
def _forward(
    nodes, source, target, wigner, radial, out,
    row: tl.constexpr, degree: tl.constexpr, first: tl.constexpr, packed: tl.constexpr,
    lmax: tl.constexpr, size: tl.constexpr, block: tl.constexpr, count: tl.constexpr,
    channels: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    edge, side = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.program_id(2) * width + tl.arange(0, width)
    mask = column < channels
    node = tl.load(source + edge) if side == 0 else tl.load(target + edge)
    nodes += node * (lmax + 1) * (lmax + 1) * channels + column
    wigner += edge * packed
    column += side * channels
    radial += edge * count * 2 * channels + column
    out += edge * size * 2 * channels + column
    for l in tl.static_range(lmax + 1):
        x = load_degree(nodes, mask, l, channels)
        for i in tl.static_range(size):
            if degree[i] == l:
                turned = turn(wigner + first[i], x, l)
                turned *= tl.load(radial + block[i] * 2 * channels, mask=mask).to(tl.float32)
                tl.store(out + row[i] * 2 * channels, turned, mask=mask)


@triton.jit
def _backward_radial(
    nodes, source, target, wigner, gradient, of_radial,
    row: tl.constexpr, degree: tl.constexpr, first: tl.constexpr, packed: tl.constexpr,
    lmax: tl.constexpr, size: tl.constexpr, block: tl.constexpr, count: tl.constexpr,
    block_degree: tl.constexpr, channels: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    edge, side = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.program_id(2) * width + tl.arange(0, width)
    mask = column < channels
    node = tl.load(source + edge) if side == 0 else tl.load(target + edge)
    nodes += node * (lmax + 1) * (lmax + 1) * channels + column
    wigner += edge * packed
    column += side * channels
    gradient += edge * size * 2 * channels + column
    of_radial += edge * count * 2 * channels + column
    for l in tl.static_range(lmax + 1):
        x = load_degree(nodes, mask, l, channels)
        for b in tl.static_range(count):
            if block_degree[b] == l:
                total = tl.zeros((width,), tl.float32)
                for i in tl.static_range(size):
                    if block[i] == b:
                        given = tl.load(gradient + row[i] * 2 * channels, mask=mask).to(tl.float32)
                        total += given * turn(wigner + first[i], x, l)
                tl.store(of_radial + b * 2 * channels, total, mask=mask)


@triton.jit(do_not_specialize=["edges"])
def _backward_nodes(
    order, offsets, wigner, radial, gradient, of_nodes, edges,
    row: tl.constexpr, degree: tl.constexpr, first: tl.constexpr, packed: tl.constexpr,
    lmax: tl.constexpr, size: tl.constexpr, block: tl.constexpr, count: tl.constexpr,
    channels: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    node, of_degree = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.program_id(2) * width + tl.arange(0, width)
    mask = column < channels
    of_nodes += node * (lmax + 1) * (lmax + 1) * channels + column
    begin, end = tl.load(offsets + node), tl.load(offsets + node + 1)
    for l in tl.static_range(lmax + 1):
        if of_degree == l:
            sums = zeros(column, 2 * l + 1)
            for j in range(begin, end):
                place = tl.load(order + j)
                edge, side = place % edges, place // edges
                entries = wigner + edge * packed
                given = gradient + (edge * size * 2 + side) * channels + column
                weights = radial + (edge * count * 2 + side) * channels + column
                for i in tl.static_range(size):
                    if degree[i] == l:
                        scaled = tl.load(given + row[i] * 2 * channels, mask=mask).to(tl.float32)
                        scaled *= tl.load(weights + block[i] * 2 * channels, mask=mask).to(
                            tl.float32
                        )
                        sums = add_turned_back(sums, entries + first[i], scaled, l)
            store_degree(of_nodes, sums, mask, l, channels)


class RotateAndScale(torch.autograd.Function):
    """`eqv2_plugin.kernels.rotation.rotate_and_scale`; the result has the dtype of ``radial``."""

    @staticmethod
    def forward(ctx, nodes, radial, source, target, wigner, layout):
        constants = _constants(nodes, radial, layout)
        nodes, radial, wigner = nodes.contiguous(), radial.contiguous(), wigner.contiguous()
        ctx.save_for_backward(nodes, radial, source, target, wigner)
        ctx.layout = layout
        if ctx.needs_input_grad[0]:
            ctx.edges_of_nodes = edges_of_nodes(source, target, len(nodes))
        channels = nodes.shape[2]
        out = radial.new_empty(len(source), layout.size, 2 * channels)
        blocks, width = channel_blocks(channels, _EDGE_WIDTH)
        grid = (len(source), 2, blocks)
        ends = source.contiguous(), target.contiguous()
        launch(_forward, grid, nodes, *ends, wigner, radial, out, width=width, **constants)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        nodes, radial, source, target, wigner = ctx.saved_tensors
        constants = _constants(nodes, radial, ctx.layout)
        gradient, channels = gradient.contiguous(), nodes.shape[2]
        of_nodes = of_radial = None
        if ctx.needs_input_grad[1]:
            of_radial = torch.empty_like(radial)
            blocks, width = channel_blocks(channels, _EDGE_WIDTH)
            grid = (len(source), 2, blocks)
            tensors = nodes, source.contiguous(), target.contiguous(), wigner, gradient, of_radial
            degrees = _degree_of_blocks(constants)
            launch(_backward_radial, grid, *tensors, width=width, block_degree=degrees, **constants)
        if ctx.needs_input_grad[0]:
            of_nodes = torch.empty_like(nodes)
            blocks, width = channel_blocks(channels, _NODE_WIDTH)
            grid = (len(nodes), ctx.layout.lmax + 1, blocks)
            tensors = *ctx.edges_of_nodes, wigner, radial, gradient, of_nodes, len(source)
            launch(_backward_nodes, grid, *tensors, width=width, **constants)
        return of_nodes, of_radial, None, None, None, None


def _constants(nodes: torch.Tensor, radial: torch.Tensor, layout: EdgeLayout) -> dict[str, Any]:
    channels = nodes.shape[2]
    block = radial_blocks(layout, radial.shape[1], channels)
    return {
        **row_constants(layout),
        "block": tuple(block.tolist()),
        "count": radial.shape[1] // (2 * channels),
        "channels": channels,
    }


def _degree_of_blocks(constants: dict[str, Any]) -> tuple[int, ...]:
    """The degree of each block of radial weights: all of its rows have the same one."""
    pairs = zip(constants["block"], constants["degree"], strict=True)
    return tuple(degree for _, degree in sorted(set(pairs)))


# All layers of one forward pass hand over the same two tensors.
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
    known = _SORTED.get(source)
    if known is not None and known[0]() is target and len(known[2]) == nodes + 1:
        return known[1:]
    ends, order = torch.sort(torch.cat((source, target)), stable=True)
    offsets = torch.searchsorted(ends, torch.arange(nodes + 1, device=ends.device))
    _SORTED[source] = TensorWeakRef(target), order, offsets
    return order, offsets
