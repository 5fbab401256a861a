"""Compiled loops: node features into edge frames, times radial weights; and its derivative.

All arrays are float32 and contiguous. Loops run over the channels innermost, where the compiler
vectorises them if every index is the loop's own: hence a view for each row. The number of channels
is a constant of each compiled kernel.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from eqv2_plugin.kernels.compilation import compile_kernel


@cache
def forward_kernel(channels: int) -> Any:
    """Kernel of `eqv2_plugin.kernels.rotation.rotate_and_scale`."""

    def kernel(begin, end, nodes, source, target, wigner, radial, row, degree, first, block, out):
        for edge in range(begin, end):
            for side in range(2):
                node = source[edge] if side == 0 else target[edge]
                base = side * channels
                for i in range(row.shape[0]):
                    l, w = degree[i], first[i]
                    b = block[i] * 2 * channels + base
                    turned = out[edge, row[i], base : base + channels]
                    weights = radial[edge, b : b + channels]
                    d, x = wigner[edge, w], nodes[node, l * l]
                    for c in range(channels):
                        turned[c] = d * x[c]
                    for k in range(1, 2 * l + 1):
                        d, x = wigner[edge, w + k], nodes[node, l * l + k]
                        for c in range(channels):
                            turned[c] += d * x[c]
                    for c in range(channels):
                        turned[c] *= weights[c]

    return compile_kernel(kernel, "rotation_forward", channels)


@cache
def backward_kernel(channels: int) -> Any:
    """Gradients by nodes (added to) and radial weights (set)."""

    def kernel(
        begin, end, nodes, source, target, wigner, radial, row, degree, first, block,
        gradient, scratch, of_nodes, of_radial,
    ):  # fmt: skip
        turned, scaled = scratch[0], scratch[1]
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
                        turned[c] = d * x[c]
                    for k in range(1, 2 * l + 1):
                        d, x = wigner[edge, w + k], nodes[node, l * l + k]
                        for c in range(channels):
                            turned[c] += d * x[c]
                    for c in range(channels):
                        of_weights[c] += given[c] * turned[c]
                        scaled[c] = given[c] * weights[c]
                    for k in range(2 * l + 1):
                        d, x = wigner[edge, w + k], of_nodes[node, l * l + k]
                        for c in range(channels):
                            x[c] += d * scaled[c]

    return compile_kernel(kernel, "rotation_backward", channels)
