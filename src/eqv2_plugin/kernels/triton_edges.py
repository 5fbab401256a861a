"""Triton's kernels of edges: rotation into their frames and back, with first derivatives.

Rotation, forward: one program takes one end of one edge and a block of channels. Per degree it
keeps the 2l + 1 node rows in registers and makes every kept row of the edge frame from them;
entries of the Wigner matrix are scalars. Nothing but the inputs and the result touches the memory.
Backward, radial weights take one pass of the same shape. Gradients of nodes would need atomic
additions there, whose order, and so the last bits, would change from run to run. Instead a second
pass has one program per node and degree, which adds up what the node's edges give in a fixed
order; it needs the edges of every node, sorted once per backward pass of the model.

Reduction, forward: one program takes one target, one degree and a block of channels, and adds up
the target's edges in registers, in their order. Every value is read once. Backward, one program
takes one edge and the channels of a few heads.
"""

# Triton grows tuples by addition only.
# ruff: noqa: RUF005
# mypy: disable-error-code="assignment"
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def zeros(like, count: tl.constexpr):
    """``count`` vectors of zeros in registers, as a tuple."""
    vectors = ()
    for _ in tl.static_range(count):
        vectors = vectors + (tl.zeros(like.shape, tl.float32),)
    return vectors


@triton.jit
def load_degree(pointer, mask, degree: tl.constexpr, stride: tl.constexpr):
    """The 2l + 1 rows of one degree of a degree-major feature, as a tuple."""
    rows = ()
    for k in tl.static_range(2 * degree + 1):
        rows = rows + (tl.load(pointer + (degree * degree + k) * stride, mask=mask).to(tl.float32),)
    return rows


@triton.jit
def store_degree(pointer, rows, mask, degree: tl.constexpr, stride: tl.constexpr):
    """The reverse of `load_degree`."""
    for k in tl.static_range(2 * degree + 1):
        tl.store(pointer + (degree * degree + k) * stride, rows[k], mask=mask)


@triton.jit
def rotate(entries, rows, degree: tl.constexpr):
    """One row of a Wigner matrix, which starts at ``entries``, times the rows of its degree."""
    rotated = tl.load(entries) * rows[0]
    for k in tl.static_range(1, 2 * degree + 1):
        rotated += tl.load(entries + k) * rows[k]
    return rotated


@triton.jit
def add_rotated_back(sums, entries, value, degree: tl.constexpr):
    """One row of a Wigner matrix, transposed, times ``value``, added to the rows of its degree."""
    added = ()
    for k in tl.static_range(2 * degree + 1):
        added = added + (sums[k] + tl.load(entries + k) * value,)
    return added


@triton.jit
def rotation_forward(
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
                rotated = rotate(wigner + first[i], x, l)
                rotated *= tl.load(radial + block[i] * 2 * channels, mask=mask).to(tl.float32)
                tl.store(out + row[i] * 2 * channels, rotated, mask=mask)


@triton.jit
def rotation_backward_radial(
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
                        total += given * rotate(wigner + first[i], x, l)
                tl.store(of_radial + b * 2 * channels, total, mask=mask)


@triton.jit(do_not_specialize=["edges"])
def rotation_backward_nodes(
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
                        sums = add_rotated_back(sums, entries + first[i], scaled, l)
            store_degree(of_nodes, sums, mask, l, channels)


@triton.jit
def reduction_forward(
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
                        sums = add_rotated_back(sums, entries + first[i], value, l)
            store_degree(out, sums, mask, l, channels)


@triton.jit
def reduction_backward(
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
                rotated = rotate(wigner + first[i], given, l) * scale[i]
                total += rotated * tl.load(values + row[i] * channels, mask=mask).to(tl.float32)
                tl.store(of_values + row[i] * channels, rotated * weight, mask=mask)
    # Lanes outside of the mask hold anything.
    summed = tl.sum(tl.where(mask, total, 0.0), 1)
    tl.store(of_attention + edge * heads + head, summed, mask=head < heads)
