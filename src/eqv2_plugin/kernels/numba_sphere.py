"""Numba's loops of the S2 activation: SiLU on sphere samples, one latitude at a time.

A grid matrix is a product of a latitude and a longitude factor, ``P[b, i] S[a, m(i)]``. Rows of one
order are summed first, so that a sample costs 2 M + 1 products instead of one per row, and the
samples of one pair of longitudes at a time live in registers.

Loops run over the channels innermost. How many there are is read from the arrays: LLVM would unroll
a loop over a constant 32 of them into single numbers before it thinks of vectors. Row ``i`` of the
features, of which those from ``first`` on are wanted, is row ``i - shift`` of the result.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import carray, njit

from eqv2_plugin.kernels.numba_intrinsics import float_of_bits, floats_on_stack
from eqv2_plugin.kernels.numba_runtime import OPTIONS, compile_kernel

# 2^r on [-1/2, 1/2] to 1e-8 (Taylor series of exp(r ln 2)).
_C1, _C2, _C3, _C4, _C5, _C6 = (
    np.float32(np.log(2.0) ** k / factorial)
    for k, factorial in ((1, 1), (2, 2), (3, 6), (4, 24), (5, 120), (6, 720))
)
_LOG2_E = np.float32(1.0 / np.log(2.0))
_HALF, _ONE, _TWO = np.float32(0.5), np.float32(1.0), np.float32(2.0)
_LIMIT = np.float32(126.0)
_BIAS, _MANTISSA = np.int32(127), np.int32(23)


@njit(inline="always", **OPTIONS)
def _sigmoid(y):
    """``1 / (1 + exp(-y))``, with ``exp(-y) = p 2^n``."""
    t = min(max(-_LOG2_E * y, -_LIMIT), _LIMIT)
    whole = np.floor(t + _HALF)
    r = t - whole
    p = _C3 + r * (_C4 + r * (_C5 + r * _C6))
    p = _ONE + r * (_C1 + r * (_C2 + r * p))
    return _ONE / (_ONE + p * float_of_bits((np.int32(whole) + _BIAS) << _MANTISSA))


@njit(inline="always", **OPTIONS)
def _two_samples(longitude, a, sums, first, mmax, c):
    """On longitudes half a turn apart, where even orders agree and odd ones change sign."""
    even, odd = np.float32(0.0), np.float32(0.0)
    for w in range(2 * mmax + 1):
        if (w - mmax) % 2 == 0:
            even += longitude[a, w] * sums[first + w, c]
        else:
            odd += longitude[a, w] * sums[first + w, c]
    return even + odd, even - odd


@njit(inline="always", **OPTIONS)
def _add_two_samples(longitude, a, sums, first, mmax, c, y0, y1):
    """The transpose of `_two_samples`."""
    even, odd = y0 + y1, y0 - y1
    for w in range(2 * mmax + 1):
        if (w - mmax) % 2 == 0:
            sums[first + w, c] += longitude[a, w] * even
        else:
            sums[first + w, c] += longitude[a, w] * odd


@cache
def sphere_forward(rows: int, channels: int, latitudes: int, longitudes: int, mmax: int) -> Any:
    """``from_grid[first:] @ silu(to_grid @ x)`` of rows ``begin`` to ``end``."""
    orders, half = 2 * mmax + 1, longitudes // 2
    # Sums by order on one latitude: of features, and of the result.
    shape, size = (2 * orders, channels), 2 * orders * channels
    back = orders

    def kernel(begin, end, features, to_lat, from_lat, longitude, order, first, shift, out):
        sums = carray(floats_on_stack(size), shape)
        width = features.shape[2]
        for n in range(begin, end):
            out[n] = 0.0
            for b in range(latitudes):
                sums[:] = 0.0
                for i in range(rows):
                    p, w = to_lat[b, i], order[i]
                    for c in range(width):
                        sums[w, c] += p * features[n, i, c]
                for a in range(half):
                    for c in range(width):
                        y0, y1 = _two_samples(longitude, a, sums, 0, mmax, c)
                        y0, y1 = y0 * _sigmoid(y0), y1 * _sigmoid(y1)
                        _add_two_samples(longitude, a, sums, back, mmax, c, y0, y1)
                for i in range(first, rows):
                    q, w = from_lat[b, i], back + order[i]
                    for c in range(width):
                        out[n, i - shift, c] += q * sums[w, c]

    return compile_kernel(kernel, "sphere_forward", rows, channels, latitudes, longitudes, mmax)


@cache
def sphere_backward(rows: int, channels: int, latitudes: int, longitudes: int, mmax: int) -> Any:
    """``to_grid^T @ (silu'(to_grid @ x) * (from_grid[first:]^T @ gradient))``."""
    orders, half = 2 * mmax + 1, longitudes // 2
    # Sums by order on one latitude: of features, of the gradient, and of the result.
    shape, size = (3 * orders, channels), 3 * orders * channels
    through, back = orders, 2 * orders

    def kernel(
        begin, end, features, gradient, to_lat, from_lat, longitude, order, first, shift, out
    ):
        sums = carray(floats_on_stack(size), shape)
        width = features.shape[2]
        for n in range(begin, end):
            out[n] = 0.0
            for b in range(latitudes):
                sums[:] = 0.0
                for i in range(rows):
                    p, w = to_lat[b, i], order[i]
                    for c in range(width):
                        sums[w, c] += p * features[n, i, c]
                for i in range(first, rows):
                    q, w = from_lat[b, i], through + order[i]
                    for c in range(width):
                        sums[w, c] += q * gradient[n, i - shift, c]
                for a in range(half):
                    for c in range(width):
                        y0, y1 = _two_samples(longitude, a, sums, 0, mmax, c)
                        g0, g1 = _two_samples(longitude, a, sums, through, mmax, c)
                        s0, s1 = _sigmoid(y0), _sigmoid(y1)
                        # silu'(y) = s (1 + y (1 - s)), s the sigmoid.
                        g0 *= s0 * (_ONE + y0 * (_ONE - s0))
                        g1 *= s1 * (_ONE + y1 * (_ONE - s1))
                        _add_two_samples(longitude, a, sums, back, mmax, c, g0, g1)
                for i in range(rows):
                    p, w = to_lat[b, i], back + order[i]
                    for c in range(width):
                        out[n, i, c] += p * sums[w, c]

    return compile_kernel(kernel, "sphere_backward", rows, channels, latitudes, longitudes, mmax)


@cache
def sphere_second(rows: int, channels: int, latitudes: int, longitudes: int, mmax: int) -> Any:
    """Gradients of ``sum(second * sphere_backward)`` by features and by gradient."""
    orders, half = 2 * mmax + 1, longitudes // 2
    # Sums by order on one latitude: of features, gradient and second, and of both results.
    shape, size = (5 * orders, channels), 5 * orders * channels
    through, along, bent, back = orders, 2 * orders, 3 * orders, 4 * orders

    def kernel(
        begin, end, features, gradient, second,
        to_lat, from_lat, longitude, order, first, shift, of_features, of_gradient,
    ):  # fmt: skip
        sums = carray(floats_on_stack(size), shape)
        width = features.shape[2]
        for n in range(begin, end):
            of_features[n] = 0.0
            of_gradient[n] = 0.0
            for b in range(latitudes):
                sums[:] = 0.0
                for i in range(rows):
                    p, w = to_lat[b, i], order[i]
                    for c in range(width):
                        sums[w, c] += p * features[n, i, c]
                        sums[along + w, c] += p * second[n, i, c]
                for i in range(first, rows):
                    q, w = from_lat[b, i], through + order[i]
                    for c in range(width):
                        sums[w, c] += q * gradient[n, i - shift, c]
                for a in range(half):
                    for c in range(width):
                        y0, y1 = _two_samples(longitude, a, sums, 0, mmax, c)
                        g0, g1 = _two_samples(longitude, a, sums, through, mmax, c)
                        d0, d1 = _two_samples(longitude, a, sums, along, mmax, c)
                        s0, s1 = _sigmoid(y0), _sigmoid(y1)
                        # silu''(y) = s (1 - s) (2 + y (1 - 2 s)), s the sigmoid.
                        bend0, bend1 = s0 * (_ONE - s0), s1 * (_ONE - s1)
                        g0 *= d0 * bend0 * (_TWO + y0 * (_ONE - _TWO * s0))
                        g1 *= d1 * bend1 * (_TWO + y1 * (_ONE - _TWO * s1))
                        _add_two_samples(longitude, a, sums, bent, mmax, c, g0, g1)
                        d0, d1 = d0 * (s0 + y0 * bend0), d1 * (s1 + y1 * bend1)
                        _add_two_samples(longitude, a, sums, back, mmax, c, d0, d1)
                for i in range(rows):
                    p, w = to_lat[b, i], bent + order[i]
                    for c in range(width):
                        of_features[n, i, c] += p * sums[w, c]
                for i in range(first, rows):
                    q, w = from_lat[b, i], back + order[i]
                    for c in range(width):
                        of_gradient[n, i - shift, c] += q * sums[w, c]

    return compile_kernel(kernel, "sphere_second", rows, channels, latitudes, longitudes, mmax)
