"""Triton kernels of the S2 activation: SiLU on sphere samples, one latitude at a time.

The algorithm is that of `numba_sphere`. A thread owns one channel of one edge: its rows stay in
registers over all latitudes, and no sample ever reaches the memory. Latitude factors are scalars
from a small table; longitude factors are constants in the code.
"""

# Triton grows tuples by addition only.
# ruff: noqa: RUF005
# mypy: disable-error-code="assignment"
from __future__ import annotations

import triton
import triton.language as tl

from eqv2_plugin.kernels.triton_edges import zeros


@triton.jit
def _load_rows(pointer, mask, rows: tl.constexpr, stride: tl.constexpr):
    loaded = ()
    for i in tl.static_range(rows):
        loaded = loaded + (tl.load(pointer + i * stride, mask=mask).to(tl.float32),)
    return loaded


@triton.jit
def _store_rows(pointer, rows, mask, count: tl.constexpr, stride: tl.constexpr):
    for i in tl.static_range(count):
        tl.store(pointer + i * stride, rows[i], mask=mask)


@triton.jit
def _by_order(factors, rows, order: tl.constexpr, first: tl.constexpr, orders: tl.constexpr):
    """Rows ``first`` onwards times their factors on one latitude, summed for each order m."""
    sums = ()
    for w in tl.static_range(orders):
        total = tl.zeros(rows[0].shape, tl.float32)
        for i in tl.static_range(first, len(order)):
            if order[i] == w:
                total += tl.load(factors + i) * rows[i - first]
        sums = sums + (total,)
    return sums


@triton.jit
def _add_orders(rows, factors, back, order: tl.constexpr, first: tl.constexpr):
    """The reverse of `_by_order`, added to ``rows``."""
    added = ()
    for i in tl.static_range(first, len(order)):
        added = added + (rows[i - first] + tl.load(factors + i) * back[order[i]],)
    return added


@triton.jit
def _pair(sums, longitude: tl.constexpr, a: tl.constexpr, orders: tl.constexpr):
    """Samples at longitude a and half a turn further on: even orders agree, odd ones differ."""
    even, odd = tl.zeros(sums[0].shape, tl.float32), tl.zeros(sums[0].shape, tl.float32)
    for w in tl.static_range(orders):
        if (w - orders // 2) % 2 == 0:
            even += longitude[a * orders + w] * sums[w]
        else:
            odd += longitude[a * orders + w] * sums[w]
    return even + odd, even - odd


@triton.jit
def _add_pair(back, y0, y1, longitude: tl.constexpr, a: tl.constexpr, orders: tl.constexpr):
    """The reverse of `_pair`, added to ``back``."""
    even, odd = y0 + y1, y0 - y1
    added = ()
    for w in tl.static_range(orders):
        if (w - orders // 2) % 2 == 0:
            added = added + (back[w] + longitude[a * orders + w] * even,)
        else:
            added = added + (back[w] + longitude[a * orders + w] * odd,)
    return added


@triton.jit
def _silu(y):
    return y / (1.0 + tl.exp(-y))


@triton.jit
def _silu_slope(y):
    s = 1.0 / (1.0 + tl.exp(-y))
    return s * (1.0 + y * (1.0 - s))


@triton.jit(do_not_specialize=["total"])
def sphere_forward(
    features, to_lat, from_lat, out, total, latitudes,
    order: tl.constexpr, longitude: tl.constexpr, orders: tl.constexpr, half: tl.constexpr,
    first: tl.constexpr, channels: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    rows: tl.constexpr = len(order)
    lane = tl.program_id(0).to(tl.int64) * width + tl.arange(0, width)
    mask = lane < total
    n, c = lane // channels, lane % channels
    x = _load_rows(features + n * rows * channels + c, mask, rows, channels)
    result = zeros(lane, rows - first)
    for b in range(latitudes):
        sums = _by_order(to_lat + b * rows, x, order, 0, orders)
        back = zeros(lane, orders)
        for a in tl.static_range(half):
            y0, y1 = _pair(sums, longitude, a, orders)
            back = _add_pair(back, _silu(y0), _silu(y1), longitude, a, orders)
        result = _add_orders(result, from_lat + b * rows, back, order, first)
    at = out + n * (rows - first) * channels + c
    _store_rows(at, result, mask, rows - first, channels)


@triton.jit(do_not_specialize=["total"])
def sphere_backward(
    features, gradient, to_lat, from_lat, out, total, latitudes,
    order: tl.constexpr, longitude: tl.constexpr, orders: tl.constexpr, half: tl.constexpr,
    first: tl.constexpr, channels: tl.constexpr, width: tl.constexpr,
):  # fmt: skip
    rows: tl.constexpr = len(order)
    lane = tl.program_id(0).to(tl.int64) * width + tl.arange(0, width)
    mask = lane < total
    n, c = lane // channels, lane % channels
    x = _load_rows(features + n * rows * channels + c, mask, rows, channels)
    at = gradient + n * (rows - first) * channels + c
    given = _load_rows(at, mask, rows - first, channels)
    result = zeros(lane, rows)
    for b in range(latitudes):
        sums = _by_order(to_lat + b * rows, x, order, 0, orders)
        through = _by_order(from_lat + b * rows, given, order, first, orders)
        back = zeros(lane, orders)
        for a in tl.static_range(half):
            y0, y1 = _pair(sums, longitude, a, orders)
            g0, g1 = _pair(through, longitude, a, orders)
            g0, g1 = g0 * _silu_slope(y0), g1 * _silu_slope(y1)
            back = _add_pair(back, g0, g1, longitude, a, orders)
        result = _add_orders(result, to_lat + b * rows, back, order, 0)
    _store_rows(out + n * rows * channels + c, result, mask, rows, channels)
