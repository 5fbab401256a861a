"""Node features of both ends of every edge, in the edge's frame, times radial weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.kernels.tables import EdgeTables, edge_tables, order_tables, radial_blocks
from eqv2_plugin.kernels.threads import in_parts

# Edges that are worth a thread.
_EDGES = 32


def rotate_and_scale(
    nodes: torch.Tensor,
    source: torch.Tensor,
    target: torch.Tensor,
    wigner: torch.Tensor,
    radial: torch.Tensor,
    layout: EdgeLayout,
) -> torch.Tensor:
    """`rotate_to_edge_frame` of sources and targets, times radial weights, by Numba on a CPU.

    Args:
        nodes: [N, (lmax+1)^2, C]; float32, C a multiple of 16.
        source, target: [E].
        wigner: [E, P] from `pack_wigner`; no gradient flows into it.
        radial: [E, n 2C] for n blocks: one per (order m >= 0, degree), or one per degree.
        layout: the edge layout.

    Returns:
        [E, layout.size, 2C], order-major, sources before targets, of the dtype of ``radial``;
        differentiable once.

    Raises:
        ValueError: the radial weights fit neither way of sharing.
    """
    blocks = radial_blocks(layout, radial.shape[1], nodes.shape[2])
    rows = _Rows.of(edge_tables(layout), layout.size, blocks)
    return _RotateAndScale.apply(nodes, radial, source, target, wigner, rows)


def rotate_and_scale_order(
    nodes: torch.Tensor,
    source: torch.Tensor,
    target: torch.Tensor,
    wigner: torch.Tensor,
    radial: torch.Tensor,
    layout: EdgeLayout,
    order: int,
) -> torch.Tensor:
    """The rows of one order of `rotate_and_scale`, on a CPU.

    One order after the other keeps what a matrix product reads next in the cache.

    Args:
        radial: [E, n 2C] for the n = lmax + 1 - |m| degrees that have this order.
        order: m, positive or negative.

    Returns:
        [E, n 2C]; differentiable once.

    Raises:
        ValueError: another number of radial weights.
    """
    tables = order_tables(layout, order)
    wanted = layout.num_degrees(order) * 2 * nodes.shape[2]
    if radial.shape[1] != wanted:
        raise ValueError(f"order {order} needs {wanted} radial weights, got {radial.shape[1]}")
    rows = _Rows.of(tables, len(tables.row), tables.order_block)
    return _RotateAndScale.apply(nodes, radial, source, target, wigner, rows).flatten(1)


def pack_wigner(blocks: list[torch.Tensor]) -> torch.Tensor:
    """The blocks of `wigner_rows`, [E, rows, 2l+1] per degree, as one matrix [E, P]."""
    return torch.cat([block.flatten(1) for block in blocks], dim=1).contiguous()


class _Rows(NamedTuple):
    """Which rows a kernel computes: their tables, and how many the result has."""

    size: int
    tables: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

    @classmethod
    def of(cls, tables: EdgeTables, size: int, blocks: np.ndarray) -> _Rows:
        return cls(size, (tables.row, tables.degree, tables.first, blocks))


class _RotateAndScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, nodes, radial, source, target, wigner, rows):
        from eqv2_plugin.kernels.cpu_rotation import forward_kernel

        nodes, radial = nodes.contiguous(), radial.contiguous()
        ctx.save_for_backward(nodes, radial, source, target, wigner)
        ctx.rows = rows
        channels = nodes.shape[2]
        out = nodes.new_empty(len(source), rows.size, 2 * channels)
        arrays = _arrays(nodes, source, target, wigner, radial) + rows.tables
        kernel, filled = forward_kernel(channels), out.numpy()
        in_parts(lambda begin, end: kernel(begin, end, *arrays, filled), len(source), _EDGES)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        from eqv2_plugin.kernels.cpu_rotation import backward_kernel

        nodes, radial, source, target, wigner = ctx.saved_tensors
        channels = nodes.shape[2]
        arrays = _arrays(nodes, source, target, wigner, radial) + ctx.rows.tables
        of_radial = torch.empty_like(radial)
        kernel = backward_kernel(channels)
        given, of_weights = gradient.contiguous().numpy(), of_radial.numpy()

        def part(begin: int, end: int) -> torch.Tensor:
            # Each thread adds to nodes of its own; two edges may share a source.
            of_nodes = torch.zeros_like(nodes)
            scratch = nodes.new_empty(2, channels).numpy()
            kernel(begin, end, *arrays, given, scratch, of_nodes.numpy(), of_weights)
            return of_nodes

        parts = in_parts(part, len(source), _EDGES)
        return sum(parts[1:], parts[0]), of_radial, None, None, None, None


def _arrays(*tensors: torch.Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.detach().numpy() for tensor in tensors)
