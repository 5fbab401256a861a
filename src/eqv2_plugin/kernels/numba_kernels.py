"""The kernels of CPUs: loops compiled by Numba, on as many threads as torch has."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from eqv2_plugin.kernels import fused
from eqv2_plugin.kernels import numba_edges as edge_loops
from eqv2_plugin.kernels import numba_sphere as sphere_loops
from eqv2_plugin.kernels.fused import ODD_CHANNELS, FusedKernels, decline
from eqv2_plugin.kernels.interface import Edges, Grid, OrderBlock, RadialWeights
from eqv2_plugin.kernels.numba_runtime import in_parts
from eqv2_plugin.kernels.reference import REFERENCE
from eqv2_plugin.kernels.tables import EdgeTables, GridFactors, degree_tables, order_tables

# Edges, targets, and rows of features that are worth a thread.
_EDGES, _TARGETS, _ROWS = 32, 2, 16


class NumbaKernels(FusedKernels):
    """float32 on a CPU, channels a multiple of 16."""

    device = "CPU"

    def gather_rotate_scale(
        self, nodes: torch.Tensor, edges: Edges, weights: RadialWeights
    ) -> Iterator[OrderBlock]:
        # One order after the other: what a product reads next stays in the cache.
        for order in range(edges.layout.mmax + 1):
            scale = weights.of_order(order)
            yield tuple(
                self.rotated(nodes, scale, edges, order_tables(edges.layout, signed)).flatten(1)
                for signed in ((order, -order) if order else (0,))
            )

    def sampled_silu(self, features: torch.Tensor, grid: Grid, first_row: int) -> torch.Tensor:
        if features.shape[2] % 16:
            decline(self.device, ODD_CHANNELS)
            return REFERENCE.sampled_silu(features, grid, first_row)
        return super().sampled_silu(features, grid, first_row)

    def separable_silu(
        self, features: torch.Tensor, scalars: torch.Tensor, grid: Grid
    ) -> torch.Tensor:
        # All rows in their place: joining them would be one more pass over the result, and back.
        if grid.factors is None or features.shape[2] % 16:
            return super().separable_silu(features, scalars, grid)
        forward = partial(self._separable, grid.factors)
        backward = partial(self._separable_backward, grid.factors)
        return fused.SampledSiLU.apply(forward, backward, features, scalars)

    def weigh_rotate_sum(
        self, values: torch.Tensor, attention: torch.Tensor, edges: Edges, degree: int | None
    ) -> torch.Tensor:
        if degree is None:
            return super().weigh_rotate_sum(values, attention, edges, degree)
        tables = degree_tables(edges.layout, degree)
        steps = partial(self._sum, tables), partial(self._sum_backward, tables)
        return fused.WeighRotateSum.apply(*steps, values, attention, edges.packed, edges.offsets)

    def _rotate(self, tables, nodes, radial, source, target, wigner):
        channels = nodes.shape[2]
        out = nodes.new_empty(len(source), tables.size, 2 * channels)
        given = _arrays(nodes, source, target, wigner, radial) + _rotation_columns(tables)
        kernel, filled = edge_loops.rotation_forward(), out.numpy()
        in_parts(lambda begin, end: kernel(begin, end, *given, filled), len(source), _EDGES)
        return out

    def _rotate_backward(self, tables, gradient, needed, nodes, radial, source, target, wigner):
        channels = nodes.shape[2]
        of_radial = torch.empty_like(radial)
        given = _arrays(nodes, source, target, wigner, radial) + _rotation_columns(tables)
        kernel = edge_loops.rotation_backward()
        by_result, filled = gradient.numpy(), of_radial.numpy()

        def part(begin: int, end: int) -> torch.Tensor:
            # Each thread adds to nodes of its own; two edges may share a source.
            of_nodes = torch.zeros_like(nodes)
            scratch = nodes.new_empty(2, channels).numpy()
            kernel(begin, end, *given, by_result, scratch, of_nodes.numpy(), filled)
            return of_nodes

        parts = in_parts(part, len(source), _EDGES)
        return sum(parts[1:], parts[0]), of_radial

    def _silu(self, factors, first_row, features):
        count, rows, channels = features.shape
        out = features.new_empty(count, rows - first_row, channels)
        _sphere_forward(factors, (first_row, first_row), features, out)
        return out

    def _silu_backward(self, factors, first_row, gradient, needed, features):
        return (_sphere_backward(factors, (first_row, first_row), features, gradient),)

    def _separable(self, factors, features, scalars):
        out = torch.empty_like(features)
        _sphere_forward(factors, (1, 0), features, out)
        out[:, 0] = torch.nn.functional.silu(scalars)
        return out

    def _separable_backward(self, factors, gradient, needed, features, scalars):
        of_scalars = torch.ops.aten.silu_backward(gradient[:, 0], scalars)
        return _sphere_backward(factors, (1, 0), features, gradient), of_scalars

    def silu_second(
        self,
        factors: GridFactors,
        first_row: int,
        features: torch.Tensor,
        gradient: torch.Tensor,
        second: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of ``sum(second * _silu_backward)`` by features and by gradient."""
        out = torch.empty_like(features), torch.empty_like(gradient)
        kernel = sphere_loops.sphere_second(*_grid_sizes(features, factors))
        rows = first_row, first_row
        given = *_arrays(features, gradient, second), *_grid_tables(factors), *rows
        filled = _arrays(*out)
        in_parts(lambda begin, end: kernel(begin, end, *given, *filled), len(features), _ROWS)
        return out

    def _sum(self, tables, values, attention, wigner, offsets):
        channels = values.shape[2]
        out = values.new_empty(len(offsets) - 1, _rows_of_result(tables), channels)
        given = _arrays(values, attention, wigner, offsets) + _reduction_columns(tables)
        kernel, filled = edge_loops.reduction_forward(), out.numpy()

        def part(begin: int, end: int) -> None:
            kernel(begin, end, *given, values.new_empty(channels).numpy(), filled)

        in_parts(part, len(out), _TARGETS)
        return out

    def _sum_backward(self, tables, gradient, needed, values, attention, wigner, offsets):
        channels = values.shape[2]
        of_values = torch.empty_like(values)
        # A sum over all rows and channels: in float32 it would round more than a product does.
        of_attention = torch.empty_like(attention, dtype=torch.float64)
        given = _arrays(values, attention, wigner, offsets) + _reduction_columns(tables)
        kernel, by_result = edge_loops.reduction_backward(), gradient.numpy()
        filled = of_values.numpy(), of_attention.numpy()

        def part(begin: int, end: int) -> None:
            kernel(begin, end, *given, by_result, values.new_empty(channels).numpy(), *filled)

        in_parts(part, len(offsets) - 1, _TARGETS)
        return of_values, of_attention.to(attention.dtype)


def _sphere_forward(factors, rows, features, out) -> None:
    """``rows``: the first one that is wanted, and by how many it stands further up in ``out``."""
    kernel = sphere_loops.sphere_forward(*_grid_sizes(features, factors))
    given = *_arrays(features), *_grid_tables(factors), *rows, out.numpy()
    in_parts(lambda begin, end: kernel(begin, end, *given), len(features), _ROWS)


def _sphere_backward(factors, rows, features, gradient) -> torch.Tensor:
    out = torch.empty_like(features)
    kernel = sphere_loops.sphere_backward(*_grid_sizes(features, factors))
    given = *_arrays(features, gradient), *_grid_tables(factors), *rows, out.numpy()
    in_parts(lambda begin, end: kernel(begin, end, *given), len(features), _ROWS)
    return out


def _arrays(*tensors: torch.Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.detach().numpy() for tensor in tensors)


def _rotation_columns(tables: EdgeTables) -> tuple[np.ndarray, ...]:
    return tables.row, tables.degree, tables.first, tables.block


def _reduction_columns(tables: EdgeTables) -> tuple[np.ndarray, ...]:
    """With the place of each row's degree in the result: where it begins among those that are."""
    place = tables.degree**2 - tables.degree[0] ** 2
    return tables.row, tables.degree, tables.first, tables.scale, place


def _rows_of_result(tables: EdgeTables) -> int:
    """Of all degrees up to lmax, or of one."""
    first, last = int(tables.degree[0]), int(tables.degree[-1])
    return (last + 1) ** 2 - first**2


def _grid_tables(factors: GridFactors) -> tuple[np.ndarray, ...]:
    return factors.to_lat, factors.from_lat, factors.longitude, factors.order


def _grid_sizes(features: torch.Tensor, factors: GridFactors) -> tuple[int, ...]:
    latitudes, longitudes = len(factors.to_lat), len(factors.longitude)
    return features.shape[1], features.shape[2], latitudes, longitudes, factors.mmax
