"""Fused kernels behind the interface: Numba's on a CPU, Triton's on a GPU.

Both differentiate once, and pass no gradient to the Wigner matrices. A single degree of the
result (a force head) is left to the reference implementation: it is a fifth of the work.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from eqv2_plugin.kernels import choice
from eqv2_plugin.kernels.interface import Edges, Grid, OrderBlock, RadialWeights
from eqv2_plugin.kernels.reduction import weigh_rotate_sum
from eqv2_plugin.kernels.reference import ReferenceKernels, blocks_of_orders
from eqv2_plugin.kernels.rotation import pack_wigner, rotate_and_scale_order
from eqv2_plugin.kernels.sphere import sampled_silu


class _FusedKernels(ReferenceKernels):
    """What both compilers' kernels have in common: Wigner matrices packed into one per edge."""

    def pack(self, wigner: list[torch.Tensor]) -> torch.Tensor:
        return pack_wigner(wigner)


class NumbaKernels(_FusedKernels):
    """float32 on a CPU, channels a multiple of 16."""

    def gather_rotate_scale(
        self, nodes: torch.Tensor, edges: Edges, weights: RadialWeights
    ) -> Iterator[OrderBlock]:
        # One order after the other: what a product reads next stays in the cache.
        ends = edges.source, edges.target
        for order in range(edges.layout.mmax + 1):
            scale = weights.of_order(order)
            yield tuple(
                rotate_and_scale_order(nodes, *ends, edges.packed, scale, edges.layout, signed)
                for signed in ((order, -order) if order else (0,))
            )

    def sampled_silu(self, features: torch.Tensor, grid: Grid, first_row: int) -> torch.Tensor:
        if grid.factors is None:
            choice.decline("CPU", choice.ODD_GRID)
        elif features.shape[2] % 16:
            choice.decline("CPU", choice.ODD_CHANNELS)
        else:
            return sampled_silu(features, grid.factors, first_row)
        return super().sampled_silu(features, grid, first_row)

    def weigh_rotate_sum(
        self, values: torch.Tensor, attention: torch.Tensor, edges: Edges, degree: int | None
    ) -> torch.Tensor:
        if degree is not None:
            return super().weigh_rotate_sum(values, attention, edges, degree)
        return weigh_rotate_sum(values, attention, edges.packed, edges.offsets, edges.layout)


class TritonKernels(_FusedKernels):
    """float32 and bfloat16 on a GPU, any channels."""

    def gather_rotate_scale(
        self, nodes: torch.Tensor, edges: Edges, weights: RadialWeights
    ) -> Iterator[OrderBlock]:
        from eqv2_plugin.kernels.triton_rotation import RotateAndScale

        # One launch for all orders.
        ends = edges.source, edges.target
        rotated = RotateAndScale.apply(nodes, weights.whole(), *ends, edges.packed, edges.layout)
        yield from blocks_of_orders(rotated, edges.layout)

    def sampled_silu(self, features: torch.Tensor, grid: Grid, first_row: int) -> torch.Tensor:
        from eqv2_plugin.kernels.triton_sphere import SampledSiLU

        if grid.factors is None:
            choice.decline("GPU", choice.ODD_GRID)
            return super().sampled_silu(features, grid, first_row)
        return SampledSiLU.apply(features, grid.factors, first_row)

    def weigh_rotate_sum(
        self, values: torch.Tensor, attention: torch.Tensor, edges: Edges, degree: int | None
    ) -> torch.Tensor:
        from eqv2_plugin.kernels.triton_reduction import WeighRotateSum

        if degree is not None:
            return super().weigh_rotate_sum(values, attention, edges, degree)
        return WeighRotateSum.apply(values, attention, edges.packed, edges.offsets, edges.layout)
