"""Numba's loops of the S2 activation: SiLU on sphere samples, one latitude at a time.

A grid matrix is a product of a latitude and a longitude factor, ``P[b, i] S[a, m(i)]``. Rows of one
order are summed first, so that a sample costs 2 M + 1 products instead of one per row, and the
samples of one pair of longitudes at a time live in registers.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import njit

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
def _exponential(sample, power, bits, channels):
    """``exp(-sample)`` as ``power * 2^n``, with 2^n left as the bits of a float32."""
    for h in range(2):
        for c in range(channels):
            t = min(max(-_LOG2_E * sample[h, c], -_LIMIT), _LIMIT)
            whole = np.floor(t + _HALF)
            r = t - whole
            bits[h, c] = (np.int32(whole) + _BIAS) << _MANTISSA
            p = _C3 + r * (_C4 + r * (_C5 + r * _C6))
            power[h, c] = _ONE + r * (_C1 + r * (_C2 + r * p))


@cache
def sphere_forward(rows: int, channels: int, latitudes: int, longitudes: int, mmax: int) -> Any:
    """``from_grid[first:] @ silu(to_grid @ x)`` of rows ``begin`` to ``end``.

    Longitudes come in pairs half a turn apart, where even orders agree and odd ones change sign.
    """
    orders, half = 2 * mmax + 1, longitudes // 2

    def kernel(begin, end, features, to_lat, from_lat, longitude, order, first, out):
        sums = np.empty((orders, channels), np.float32)
        back = np.empty((orders, channels), np.float32)
        sample = np.empty((2, channels), np.float32)
        power = np.empty((2, channels), np.float32)
        bits = np.empty((2, channels), np.int32)
        scale = bits.view(np.float32)
        for n in range(begin, end):
            for i in range(rows - first):
                for c in range(channels):
                    out[n, i, c] = 0.0
            for b in range(latitudes):
                for w in range(orders):
                    for c in range(channels):
                        sums[w, c] = 0.0
                        back[w, c] = 0.0
                for i in range(rows):
                    p, w = to_lat[b, i], order[i]
                    for c in range(channels):
                        sums[w, c] += p * features[n, i, c]
                for a in range(half):
                    for c in range(channels):
                        even, odd = np.float32(0.0), np.float32(0.0)
                        for w in range(orders):
                            if (w - mmax) % 2 == 0:
                                even += longitude[a, w] * sums[w, c]
                            else:
                                odd += longitude[a, w] * sums[w, c]
                        sample[0, c] = even + odd
                        sample[1, c] = even - odd
                    _exponential(sample, power, bits, channels)
                    for c in range(channels):
                        # silu(y) = y / (1 + exp(-y)), with exp(-y) = power * scale.
                        y0 = sample[0, c] / (_ONE + power[0, c] * scale[0, c])
                        y1 = sample[1, c] / (_ONE + power[1, c] * scale[1, c])
                        even, odd = y0 + y1, y0 - y1
                        for w in range(orders):
                            if (w - mmax) % 2 == 0:
                                back[w, c] += longitude[a, w] * even
                            else:
                                back[w, c] += longitude[a, w] * odd
                for i in range(first, rows):
                    q, w = from_lat[b, i], order[i]
                    for c in range(channels):
                        out[n, i - first, c] += q * back[w, c]

    return compile_kernel(kernel, "sphere_forward", rows, channels, latitudes, longitudes, mmax)


@cache
def sphere_backward(rows: int, channels: int, latitudes: int, longitudes: int, mmax: int) -> Any:
    """``to_grid^T @ (silu'(to_grid @ x) * (from_grid[first:]^T @ gradient))``."""
    orders, half = 2 * mmax + 1, longitudes // 2

    def kernel(begin, end, features, gradient, to_lat, from_lat, longitude, order, first, out):
        sums = np.empty((orders, channels), np.float32)
        through = np.empty((orders, channels), np.float32)
        back = np.empty((orders, channels), np.float32)
        sample = np.empty((2, channels), np.float32)
        slope = np.empty((2, channels), np.float32)
        power = np.empty((2, channels), np.float32)
        bits = np.empty((2, channels), np.int32)
        scale = bits.view(np.float32)
        for n in range(begin, end):
            for i in range(rows):
                for c in range(channels):
                    out[n, i, c] = 0.0
            for b in range(latitudes):
                for w in range(orders):
                    for c in range(channels):
                        sums[w, c] = 0.0
                        through[w, c] = 0.0
                        back[w, c] = 0.0
                for i in range(rows):
                    p, w = to_lat[b, i], order[i]
                    for c in range(channels):
                        sums[w, c] += p * features[n, i, c]
                for i in range(first, rows):
                    q, w = from_lat[b, i], order[i]
                    for c in range(channels):
                        through[w, c] += q * gradient[n, i - first, c]
                for a in range(half):
                    for c in range(channels):
                        even, odd = np.float32(0.0), np.float32(0.0)
                        even_g, odd_g = np.float32(0.0), np.float32(0.0)
                        for w in range(orders):
                            if (w - mmax) % 2 == 0:
                                even += longitude[a, w] * sums[w, c]
                                even_g += longitude[a, w] * through[w, c]
                            else:
                                odd += longitude[a, w] * sums[w, c]
                                odd_g += longitude[a, w] * through[w, c]
                        sample[0, c] = even + odd
                        sample[1, c] = even - odd
                        slope[0, c] = even_g + odd_g
                        slope[1, c] = even_g - odd_g
                    _exponential(sample, power, bits, channels)
                    for h in range(2):
                        for c in range(channels):
                            # silu'(y) = s (1 + y (1 - s)), s the sigmoid.
                            s = _ONE / (_ONE + power[h, c] * scale[h, c])
                            slope[h, c] *= s * (_ONE + sample[h, c] * (_ONE - s))
                    for c in range(channels):
                        even, odd = slope[0, c] + slope[1, c], slope[0, c] - slope[1, c]
                        for w in range(orders):
                            if (w - mmax) % 2 == 0:
                                back[w, c] += longitude[a, w] * even
                            else:
                                back[w, c] += longitude[a, w] * odd
                for i in range(rows):
                    p, w = to_lat[b, i], order[i]
                    for c in range(channels):
                        out[n, i, c] += p * back[w, c]

    return compile_kernel(kernel, "sphere_backward", rows, channels, latitudes, longitudes, mmax)


@cache
def sphere_second(rows: int, channels: int, latitudes: int, longitudes: int, mmax: int) -> Any:
    """Gradients of ``sum(second * sphere_backward)`` by features and by gradient."""
    orders, half = 2 * mmax + 1, longitudes // 2

    def kernel(
        begin, end, features, gradient, second,
        to_lat, from_lat, longitude, order, first, of_features, of_gradient,
    ):  # fmt: skip
        # Of features, gradient and second, on one latitude; then of both results.
        sums = np.empty((3, orders, channels), np.float32)
        back = np.empty((2, orders, channels), np.float32)
        sample = np.empty((2, channels), np.float32)
        through = np.empty((2, channels), np.float32)
        along = np.empty((2, channels), np.float32)
        power = np.empty((2, channels), np.float32)
        bits = np.empty((2, channels), np.int32)
        scale = bits.view(np.float32)
        for n in range(begin, end):
            for i in range(rows):
                for c in range(channels):
                    of_features[n, i, c] = 0.0
            for i in range(rows - first):
                for c in range(channels):
                    of_gradient[n, i, c] = 0.0
            for b in range(latitudes):
                for w in range(orders):
                    for c in range(channels):
                        sums[0, w, c] = 0.0
                        sums[1, w, c] = 0.0
                        sums[2, w, c] = 0.0
                        back[0, w, c] = 0.0
                        back[1, w, c] = 0.0
                for i in range(rows):
                    p, w = to_lat[b, i], order[i]
                    for c in range(channels):
                        sums[0, w, c] += p * features[n, i, c]
                        sums[2, w, c] += p * second[n, i, c]
                for i in range(first, rows):
                    q, w = from_lat[b, i], order[i]
                    for c in range(channels):
                        sums[1, w, c] += q * gradient[n, i - first, c]
                for a in range(half):
                    for c in range(channels):
                        even, odd = np.float32(0.0), np.float32(0.0)
                        even_g, odd_g = np.float32(0.0), np.float32(0.0)
                        even_s, odd_s = np.float32(0.0), np.float32(0.0)
                        for w in range(orders):
                            if (w - mmax) % 2 == 0:
                                even += longitude[a, w] * sums[0, w, c]
                                even_g += longitude[a, w] * sums[1, w, c]
                                even_s += longitude[a, w] * sums[2, w, c]
                            else:
                                odd += longitude[a, w] * sums[0, w, c]
                                odd_g += longitude[a, w] * sums[1, w, c]
                                odd_s += longitude[a, w] * sums[2, w, c]
                        sample[0, c] = even + odd
                        sample[1, c] = even - odd
                        through[0, c] = even_g + odd_g
                        through[1, c] = even_g - odd_g
                        along[0, c] = even_s + odd_s
                        along[1, c] = even_s - odd_s
                    _exponential(sample, power, bits, channels)
                    for h in range(2):
                        for c in range(channels):
                            # silu''(y) = s (1 - s) (2 + y (1 - 2 s)), s the sigmoid.
                            s = _ONE / (_ONE + power[h, c] * scale[h, c])
                            bend = s * (_ONE - s)
                            y, d = sample[h, c], along[h, c]
                            along[h, c] = d * (s + y * bend)
                            through[h, c] *= d * bend * (_TWO + y * (_ONE - _TWO * s))
                    for c in range(channels):
                        even, odd = through[0, c] + through[1, c], through[0, c] - through[1, c]
                        even_s, odd_s = along[0, c] + along[1, c], along[0, c] - along[1, c]
                        for w in range(orders):
                            if (w - mmax) % 2 == 0:
                                back[0, w, c] += longitude[a, w] * even
                                back[1, w, c] += longitude[a, w] * even_s
                            else:
                                back[0, w, c] += longitude[a, w] * odd
                                back[1, w, c] += longitude[a, w] * odd_s
                for i in range(rows):
                    p, w = to_lat[b, i], order[i]
                    for c in range(channels):
                        of_features[n, i, c] += p * back[0, w, c]
                for i in range(first, rows):
                    q, w = from_lat[b, i], order[i]
                    for c in range(channels):
                        of_gradient[n, i - first, c] += q * back[1, w, c]

    return compile_kernel(kernel, "sphere_second", rows, channels, latitudes, longitudes, mmax)
