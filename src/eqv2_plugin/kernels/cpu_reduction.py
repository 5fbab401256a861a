"""Compiled loops: edge values times attention, turned back and summed; and its derivative."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from eqv2_plugin.kernels.compilation import compile_kernel


@cache
def forward_kernel(heads: int, per_head: int) -> Any:
    """Kernel of `eqv2_plugin.kernels.reduction.weigh_rotate_sum`, targets ``begin`` to ``end``."""
    channels = heads * per_head

    def kernel(
        begin, end, values, attention, wigner, offsets, row, degree, first, scale, scratch, out
    ):
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
                        d, summed = wigner[edge, w + k], out[target, l * l + k]
                        for c in range(channels):
                            summed[c] += d * scratch[c]

    return compile_kernel(kernel, "reduction_forward", heads, per_head)


@cache
def backward_kernel(heads: int, per_head: int) -> Any:
    """Gradients by values and attention, both set."""
    channels = heads * per_head

    def kernel(
        begin, end, values, attention, wigner, offsets, row, degree, first, scale,
        gradient, scratch, of_values, of_attention,
    ):  # fmt: skip
        for target in range(begin, end):
            for edge in range(offsets[target], offsets[target + 1]):
                of_attention[edge] = 0.0
                for i in range(row.shape[0]):
                    l, w = degree[i], first[i]
                    value, of_value = values[edge, row[i]], of_values[edge, row[i]]
                    d, given = wigner[edge, w] * scale[i], gradient[target, l * l]
                    for c in range(channels):
                        scratch[c] = d * given[c]
                    for k in range(1, 2 * l + 1):
                        d, given = wigner[edge, w + k] * scale[i], gradient[target, l * l + k]
                        for c in range(channels):
                            scratch[c] += d * given[c]
                    for h in range(heads):
                        a = attention[edge, h]
                        part = value[h * per_head : (h + 1) * per_head]
                        of_part = of_value[h * per_head : (h + 1) * per_head]
                        turned = scratch[h * per_head : (h + 1) * per_head]
                        total = np.float32(0.0)
                        for c in range(per_head):
                            total += part[c] * turned[c]
                            of_part[c] = a * turned[c]
                        of_attention[edge, h] += total

    return compile_kernel(kernel, "reduction_backward", heads, per_head)
