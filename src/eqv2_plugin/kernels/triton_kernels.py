"""The kernels of GPUs, compiled by Triton: tables as constants, launching, a probe."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl

from eqv2_plugin.geometry.irreps import num_coefficients
from eqv2_plugin.kernels import triton_edges, triton_sphere
from eqv2_plugin.kernels.fused import FusedKernels
from eqv2_plugin.kernels.gather import edges_of_nodes
from eqv2_plugin.kernels.interface import Edges, OrderBlock, RadialWeights
from eqv2_plugin.kernels.reference import blocks_of_orders
from eqv2_plugin.kernels.tables import EdgeTables, GridFactors, edge_tables

# Channels of one program: four per thread of its single warp, and two where one program stands
# for a whole node, of which there are fewer.
_EDGE_WIDTH, _NODE_WIDTH = 128, 64
# Threads of one program of the S2 activation; each holds about 70 numbers (130 backward) for
# L = 6, M = 2.
_SPHERE_WIDTH, _SPHERE_WARPS = 128, 4


class TritonKernels(FusedKernels):
    """float32 and bfloat16 on a GPU, any channels; all arithmetic is in float32."""

    device = "GPU"

    def gather_rotate_scale(
        self, nodes: torch.Tensor, edges: Edges, weights: RadialWeights
    ) -> Iterator[OrderBlock]:
        # One launch for all orders.
        tables = edge_tables(edges.layout, weights.shared)
        rotated = self.rotated(nodes, weights.whole(), edges, tables)
        yield from blocks_of_orders(rotated, edges.layout)

    def _rotate(self, tables, nodes, radial, source, target, wigner):
        channels = nodes.shape[2]
        out = radial.new_empty(len(source), tables.size, 2 * channels)
        blocks, width = _channel_blocks(channels, _EDGE_WIDTH)
        launch(
            triton_edges.rotation_forward, (len(source), 2, blocks),
            nodes, source, target, wigner, radial, out,
            channels=channels, width=width, **_radial_constants(tables),
        )  # fmt: skip
        return out

    def _rotate_backward(self, tables, gradient, needed, nodes, radial, source, target, wigner):
        channels = nodes.shape[2]
        constants = {"channels": channels, **_radial_constants(tables)}
        of_nodes = of_radial = None
        if needed[1]:
            of_radial = torch.empty_like(radial)
            blocks, width = _channel_blocks(channels, _EDGE_WIDTH)
            launch(
                triton_edges.rotation_backward_radial, (len(source), 2, blocks),
                nodes, source, target, wigner, gradient, of_radial,
                width=width, block_degree=_degree_of_blocks(tables), **constants,
            )  # fmt: skip
        if needed[0]:
            of_nodes = torch.empty_like(nodes)
            blocks, width = _channel_blocks(channels, _NODE_WIDTH)
            ends = edges_of_nodes(source, target, len(nodes))
            launch(
                triton_edges.rotation_backward_nodes, (len(nodes), tables.lmax + 1, blocks),
                *ends, wigner, radial, gradient, of_nodes, len(source), width=width, **constants,
            )  # fmt: skip
        return of_nodes, of_radial

    def _silu(self, factors, first_row, features):
        count, rows, channels = features.shape
        out = features.new_empty(count, rows - first_row, channels)
        _launch_sphere(triton_sphere.sphere_forward, (features,), out, factors, first_row)
        return out

    def _silu_backward(self, factors, first_row, gradient, needed, features):
        out, given = torch.empty_like(features), (features, gradient)
        _launch_sphere(triton_sphere.sphere_backward, given, out, factors, first_row)
        return (out,)

    def _sum(self, tables, values, attention, wigner, offsets):
        channels, targets = values.shape[2], len(offsets) - 1
        out = values.new_empty(targets, num_coefficients(tables.lmax), channels)
        blocks, width = _channel_blocks(channels, _NODE_WIDTH)
        launch(
            triton_edges.reduction_forward, (targets, tables.lmax + 1, blocks),
            values, attention, wigner, offsets, out,
            width=width, **_head_constants(tables, values, attention),
        )  # fmt: skip
        return out

    def _sum_backward(self, tables, gradient, needed, values, attention, wigner, offsets):
        constants = _head_constants(tables, values, attention)
        of_values, of_attention = torch.empty_like(values), torch.empty_like(attention)
        edges = torch.arange(len(values), device=values.device)
        targets = torch.bucketize(edges, offsets[1:], right=True)
        width = triton.next_power_of_2(constants["per_head"])
        blocks, head_width = _channel_blocks(constants["heads"], max(_EDGE_WIDTH // width, 1))
        launch(
            triton_edges.reduction_backward, (len(values), blocks),
            values, attention, wigner, targets, gradient, of_values, of_attention,
            head_width=head_width, width=width, **constants,
        )  # fmt: skip
        return of_values, of_attention


def launch(kernel: Any, grid: tuple[int, ...], *tensors: Any, warps: int = 1, **constants: Any):
    """Run a kernel on the device of its first tensor, which need not be the current one."""
    with torch.cuda.device_of(tensors[0]):
        kernel[grid](*tensors, **constants, num_warps=warps)


def _launch_sphere(kernel, given, out, factors: GridFactors, first_row: int) -> None:
    count, _, channels = given[0].shape
    total = count * channels
    tables = _latitude_factors(factors, out.device)
    launch(
        kernel, (triton.cdiv(total, _SPHERE_WIDTH),),
        *given, *tables, out, total, len(factors.to_lat), warps=_SPHERE_WARPS,
        first=first_row, channels=channels, width=_SPHERE_WIDTH, **_grid_constants(factors),
    )  # fmt: skip


def _channel_blocks(channels: int, largest: int) -> tuple[int, int]:
    """Number of blocks of channels and their width, a power of 2 of at most ``largest``."""
    width = min(triton.next_power_of_2(channels), largest)
    return triton.cdiv(channels, width), width


# Loops over rows unroll at compile time, hence tables as constants.
@lru_cache(maxsize=256)
def _row_constants(tables: EdgeTables) -> dict[str, Any]:
    return {
        "row": tuple(tables.row.tolist()),
        "degree": tuple(tables.degree.tolist()),
        "first": tuple(tables.first.tolist()),
        "packed": tables.packed_size,
        "lmax": tables.lmax,
        "size": tables.size,
    }


@lru_cache(maxsize=256)
def _radial_constants(tables: EdgeTables) -> dict[str, Any]:
    block = tuple(tables.block.tolist())
    return {**_row_constants(tables), "block": block, "count": tables.blocks}


def _head_constants(
    tables: EdgeTables, values: torch.Tensor, attention: torch.Tensor
) -> dict[str, Any]:
    heads, scale = attention.shape[1], tuple(tables.scale.tolist())
    sizes = {"heads": heads, "per_head": values.shape[2] // heads}
    return {**_row_constants(tables), "scale": scale, **sizes}


def _degree_of_blocks(tables: EdgeTables) -> tuple[int, ...]:
    """The degree of each block of radial weights: all of its rows have the same one."""
    pairs = set(zip(tables.block.tolist(), tables.degree.tolist(), strict=True))
    return tuple(degree for _, degree in sorted(pairs))


@lru_cache(maxsize=256)
def _latitude_factors(factors: GridFactors, device: torch.device) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(t).to(device) for t in (factors.to_lat, factors.from_lat))


@lru_cache(maxsize=256)
def _grid_constants(factors: GridFactors) -> dict[str, Any]:
    longitudes, orders = factors.longitude.shape
    half = longitudes // 2
    return {
        "order": tuple(factors.order.tolist()),
        "longitude": tuple(factors.longitude[:half].ravel().tolist()),
        "orders": orders,
        "half": half,
    }


@triton.jit
def _probe(out):
    tl.store(out, 1.0)


def probe(device: torch.device) -> bool:
    """Whether a kernel compiles and runs on this device."""
    out = torch.zeros(1, device=device)
    launch(_probe, (1,), out)
    return float(out) == 1.0
