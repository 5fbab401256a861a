"""Triton kernels: edge values times attention, turned back and summed; and its derivative.

Forward, one program takes one target, one degree and a block of channels, and adds up the target's
edges in registers, in their order: no atomic additions, the same bits in every run. Every value is
read once. Backward, one program takes one edge and the channels of a few heads.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from eqv2_plugin.geometry.irreps import EdgeLayout, num_coefficients
from eqv2_plugin.kernels.tables import edge_tables
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

# Channels of one program, see `triton_rotation`.
_TARGET_WIDTH, _EDGE_WIDTH = 64, 128


@triton.jit
def _forward(
    values, attention, wigner, offsets, out,
    row: tl.constexpr, degree: tl.constexpr, first: tl.constexpr, packed: tl.constexpr,
    lmax: tl.constexpr, size: tl.constexpr, scale: tl.constexpr, heads: tl.constexpr,
    per_head: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    channels: tl.constexpr = heads * per_head
    target, of_degree = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.program_id(2) * width + tl.arange(0, width)
    mask = column < channels
    values += column
    attention += column // per_head
    out += target * (lmax + 1) * (lmax + 1) * channels + column
    begin, end = tl.load(offsets + target), tl.load(offsets + target + 1)
    for l in tl.static_range(lmax + 1):
        if of_degree == l:
            sums = zeros(column, 2 * l + 1)
            for edge in range(begin, end):
                entries = wigner + edge * packed
                weight = tl.load(attention + edge * heads, mask=mask).to(tl.float32)
                for i in tl.static_range(size):
                    if degree[i] == l:
                        value = tl.load(values + (edge * size + row[i]) * channels, mask=mask).to(
                            tl.float32
                        )
                        value *= weight * scale[i]
                        sums = add_turned_back(sums, entries + first[i], value, l)
            store_degree(out, sums, mask, l, channels)


@triton.jit
def _backward(
    values, attention, wigner, targets, gradient, of_values, of_attention,
    row: tl.constexpr, degree: tl.constexpr, first: tl.constexpr, packed: tl.constexpr,
    lmax: tl.constexpr, size: tl.constexpr, scale: tl.constexpr, heads: tl.constexpr,
    per_head: tl.constexpr, head_width: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    channels: tl.constexpr = heads * per_head
    edge = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * head_width + tl.arange(0, head_width)
    within = tl.arange(0, width)
    column = head[:, None] * per_head + within[None, :]
    mask = (head < heads)[:, None] & (within < per_head)[None, :]
    weight = tl.load(attention + edge * heads + head, mask=head < heads).to(tl.float32)[:, None]
    target = tl.load(targets + edge)
    gradient += target * (lmax + 1) * (lmax + 1) * channels + column
    wigner += edge * packed
    values += edge * size * channels + column
    of_values += edge * size * channels + column
    total = tl.zeros((head_width, width), tl.float32)
    for l in tl.static_range(lmax + 1):
        given = load_degree(gradient, mask, l, channels)
        for i in tl.static_range(size):
            if degree[i] == l:
                turned = turn(wigner + first[i], given, l) * scale[i]
                total += turned * tl.load(values + row[i] * channels, mask=mask).to(tl.float32)
                tl.store(of_values + row[i] * channels, turned * weight, mask=mask)
    # Lanes outside of the mask hold anything.
    summed = tl.sum(tl.where(mask, total, 0.0), 1)
    tl.store(of_attention + edge * heads + head, summed, mask=head < heads)


class WeighRotateSum(torch.autograd.Function):
    """`eqv2_plugin.kernels.reduction.weigh_rotate_sum`; the result has the dtype of ``values``."""

    @staticmethod
    def forward(ctx, values, attention, wigner, offsets, layout):
        values, attention = values.contiguous(), attention.contiguous()
        wigner, offsets = wigner.contiguous(), offsets.contiguous()
        ctx.save_for_backward(values, attention, wigner, offsets)
        ctx.layout = layout
        channels, targets = values.shape[2], len(offsets) - 1
        out = values.new_empty(targets, num_coefficients(layout.lmax), channels)
        blocks, width = channel_blocks(channels, _TARGET_WIDTH)
        grid = (targets, layout.lmax + 1, blocks)
        tensors = values, attention, wigner, offsets, out
        launch(_forward, grid, *tensors, width=width, **_constants(values, attention, layout))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        values, attention, wigner, offsets = ctx.saved_tensors
        constants = _constants(values, attention, ctx.layout)
        of_values, of_attention = torch.empty_like(values), torch.empty_like(attention)
        edges = torch.arange(len(values), device=values.device)
        targets = torch.bucketize(edges, offsets[1:], right=True)
        width = triton.next_power_of_2(constants["per_head"])
        blocks, head_width = channel_blocks(constants["heads"], max(_EDGE_WIDTH // width, 1))
        tensors = values, attention, wigner, targets, gradient.contiguous()
        launch(
            _backward, (len(values), blocks), *tensors, of_values, of_attention,
            head_width=head_width, width=width, **constants,
        )  # fmt: skip
        return of_values, of_attention, None, None, None


def _constants(values: torch.Tensor, attention: torch.Tensor, layout: EdgeLayout) -> dict[str, Any]:
    heads = attention.shape[1]
    return {
        **row_constants(layout),
        "scale": tuple(edge_tables(layout).scale.tolist()),
        "heads": heads,
        "per_head": values.shape[2] // heads,
    }
