"""What the Triton kernels share: blocks of channels, tables as constants, launching, a probe.

All arithmetic is in float32, whatever the dtype of the tensors in memory.
"""

# Triton grows tuples by addition only.
# ruff: noqa: RUF005
# mypy: disable-error-code="assignment"
from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl

from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.kernels.tables import edge_tables


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
def turn(entries, rows, degree: tl.constexpr):
    """One row of a Wigner matrix, which starts at ``entries``, times the rows of its degree."""
    turned = tl.load(entries) * rows[0]
    for k in tl.static_range(1, 2 * degree + 1):
        turned += tl.load(entries + k) * rows[k]
    return turned


@triton.jit
def add_turned_back(sums, entries, value, degree: tl.constexpr):
    """One row of a Wigner matrix, transposed, times ``value``, added to the rows of its degree."""
    added = ()
    for k in tl.static_range(2 * degree + 1):
        added = added + (sums[k] + tl.load(entries + k) * value,)
    return added


@triton.jit
def _probe(out):
    tl.store(out, 1.0)


def probe(device: torch.device) -> bool:
    """Whether a kernel compiles and runs on this device."""
    out = torch.zeros(1, device=device)
    launch(_probe, (1,), out)
    return float(out) == 1.0


def launch(kernel: Any, grid: tuple[int, ...], *tensors: Any, warps: int = 1, **constants: Any):
    """Run a kernel on the device of its first tensor, which need not be the current one."""
    with torch.cuda.device_of(tensors[0]):
        kernel[grid](*tensors, **constants, num_warps=warps)


def channel_blocks(channels: int, largest: int) -> tuple[int, int]:
    """Number of blocks of channels and their width, a power of 2 of at most ``largest``."""
    width = min(triton.next_power_of_2(channels), largest)
    return triton.cdiv(channels, width), width


@cache
def row_constants(layout: EdgeLayout) -> dict[str, Any]:
    """`EdgeTables` of a layout as constants of a kernel: loops over rows unroll at compile time."""
    tables = edge_tables(layout)
    return {
        "row": tuple(tables.row.tolist()),
        "degree": tuple(tables.degree.tolist()),
        "first": tuple(tables.first.tolist()),
        "packed": tables.packed_size,
        "lmax": layout.lmax,
        "size": layout.size,
    }
