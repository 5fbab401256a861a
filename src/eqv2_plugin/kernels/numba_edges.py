"""Numba's loops over edges: rotation into their frames and back, with first derivatives.

All arrays are float32 and contiguous. Loops run over the channels innermost, where the compiler
vectorises them if every index is the loop's own: hence a view for each row. The number of channels
is read from the arrays: a loop over a constant 32 of them would be unrolled into single numbers
first.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from eqv2_plugin.kernels.numba_runtime import compile_kernel


@cache
def rotation_forward() -> Any:
    """Nodes at both ends of edges ``begin`` to ``end``, rotated, times radial weights."""

    def kernel(begin, end, nodes, source, target, wigner, radial, row, degree, first, block, out):
        channels = nodes.shape[2]
        for edge in range(begin, end):
            for side in range(2):
                node = source[edge] if side == 0 else target[edge]
                base = side * channels
                for i in range(row.shape[0]):
                    l, w = degree[i], first[i]
                    b = block[i] * 2 * channels + base
                    rotated = out[edge, row[i], base : base + channels]
                    weights = radial[edge, b : b + channels]
                    d, x = wigner[edge, w], nodes[node, l * l]
                    for c in range(channels):
                        rotated[c] = d * x[c]
                    for k in range(1, 2 * l + 1):
                        d, x = wigner[edge, w + k], nodes[node, l * l + k]
                        for c in range(channels):
                            rotated[c] += d * x[c]
                    for c in range(channels):
                        rotated[c] *= weights[c]

    return compile_kernel(kernel, "rotation_forward")


@cache
def rotation_backward() -> Any:
    """Gradients by nodes (added to) and radial weights (set)."""

    def kernel(
        begin, end, nodes, source, target, wigner, radial, row, degree, first, block,
        gradient, scratch, of_nodes, of_radial,
    ):  # fmt: skip
        rotated, scaled, channels = scratch[0], scratch[1], nodes.shape[2]
        for edge in range(begin, end):
            of_radial[edge] = 0.0
            for side in range(2):
                node = source[edge] if side == 0 else target[edge]
                base = side * channels
                for i in range(row.shape[0]):
                    l, w = degree[i], first[i]
                    b = block[i] * 2 * channels + base
                    given = gradient[edge, row[i], base : base + channels]
                    weights = radial[edge, b : b + channels]
                    of_weights = of_radial[edge, b : b + channels]
                    d, x = wigner[edge, w], nodes[node, l * l]
                    for c in range(channels):
                        rotated[c] = d * x[c]
                    for k in range(1, 2 * l + 1):
                        d, x = wigner[edge, w + k], nodes[node, l * l + k]
                        for c in range(channels):
                            rotated[c] += d * x[c]
                    for c in range(channels):
                        of_weights[c] += given[c] * rotated[c]
                        scaled[c] = given[c] * weights[c]
                    for k in range(2 * l + 1):
                        d, x = wigner[edge, w + k], of_nodes[node, l * l + k]
                        for c in range(channels):
                            x[c] += d * scaled[c]

    return compile_kernel(kernel, "rotation_backward")


@cache
def reduction_forward() -> Any:
    """Weighed values, rotated to the global frame and summed: targets ``begin`` to ``end``."""

    def kernel(
        begin,
        end,
        values,
        attention,
        wigner,
        offsets,
        row,
        degree,
        first,
        scale,
        place,
        scratch,
        out,
    ):
        channels, heads = values.shape[2], attention.shape[1]
        per_head = channels // heads
        for target in range(begin, end):
            out[target] = 0.0
            for edge in range(offsets[target], offsets[target + 1]):
                for i in range(row.shape[0]):
                    l, w, value = degree[i], first[i], values[edge, row[i]]
                    for h in range(heads):
                        a = attention[edge, h] * scale[i]
                        part = value[h * per_head : (h + 1) * per_head]
                        weighed = scratch[h * per_head : (h + 1) * per_head]
                        for c in range(per_head):
                            weighed[c] = a * part[c]
                    for k in range(2 * l + 1):
                        d, summed = wigner[edge, w + k], out[target, place[i] + k]
                        for c in range(channels):
                            summed[c] += d * scratch[c]

    return compile_kernel(kernel, "reduction_forward")


@cache
def reduction_backward() -> Any:
    """Gradients by values and attention, both set."""

    def kernel(
        begin, end, values, attention, wigner, offsets, row, degree, first, scale, place,
        gradient, scratch, of_values, of_attention,
    ):  # fmt: skip
        channels, heads = values.shape[2], attention.shape[1]
        per_head = channels // heads
        for target in range(begin, end):
            for edge in range(offsets[target], offsets[target + 1]):
                of_attention[edge] = 0.0
                for i in range(row.shape[0]):
                    l, w = degree[i], first[i]
                    value, of_value = values[edge, row[i]], of_values[edge, row[i]]
                    d, given = wigner[edge, w] * scale[i], gradient[target, place[i]]
                    for c in range(channels):
                        scratch[c] = d * given[c]
                    for k in range(1, 2 * l + 1):
                        d = wigner[edge, w + k] * scale[i]
                        given = gradient[target, place[i] + k]
                        for c in range(channels):
                            scratch[c] += d * given[c]
                    for h in range(heads):
                        a = attention[edge, h]
                        part = value[h * per_head : (h + 1) * per_head]
                        of_part = of_value[h * per_head : (h + 1) * per_head]
                        rotated = scratch[h * per_head : (h + 1) * per_head]
                        total = np.float32(0.0)
                        for c in range(per_head):
                            total += part[c] * rotated[c]
                            of_part[c] = a * rotated[c]
                        of_attention[edge, h] += total

    return compile_kernel(kernel, "reduction_backward")
