"""What fused kernels of both compilers share: checks, packing, and one autograd function.

Each operation is a pair of methods on contiguous tensors, which a compiler's kernels define. They
differentiate once, and pass no gradient to the Wigner matrices. A single degree of the result (a
force head), a fifth of the work, is left to the reference implementation where a compiler does not
say otherwise.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable
from functools import cache, partial
from typing import Literal

import torch
from torch.autograd.function import once_differentiable

from eqv2_plugin.kernels.interface import Edges, Grid
from eqv2_plugin.kernels.reference import ReferenceKernels
from eqv2_plugin.kernels.tables import EdgeTables, GridFactors, edge_tables

ODD_CHANNELS = "channels that are no multiple of 16"
ODD_GRID = "S2 grid: an odd number of longitudes"

Tensors = tuple[torch.Tensor | None, ...]
Needed = tuple[bool, ...]


class FusedKernels(ReferenceKernels):
    """The operations of the interface by way of six that a compiler's kernels define.

    In all of them ``tables`` and ``factors`` say which rows there are, tensors come contiguous, and
    the backward ones take the gradient of the result and which gradients are needed.

    Attributes:
        device: "CPU" or "GPU", for the log.
    """

    device: Literal["CPU", "GPU"]

    def pack(self, wigner: list[torch.Tensor]) -> torch.Tensor:
        """[E, P] from blocks [E, rows, 2l+1], degree after degree."""
        return torch.cat([block.flatten(1) for block in wigner], dim=1).contiguous()

    def rotated(
        self, nodes: torch.Tensor, radial: torch.Tensor, edges: Edges, tables: EdgeTables
    ) -> torch.Tensor:
        """Some rows of sources and targets in the edge's frame, times radial weights.

        Args:
            nodes: [N, (lmax+1)^2, C].
            radial: [E, tables.blocks 2C].
            edges: of some targets.
            tables: of the rows.

        Returns:
            [E, tables.size, 2C], sources before targets, of the dtype of ``radial``.

        Raises:
            ValueError: another number of radial weights.
        """
        wanted = tables.blocks * 2 * nodes.shape[2]
        if radial.shape[1] != wanted:
            raise ValueError(f"{wanted} radial weights per edge are needed, got {radial.shape[1]}")
        steps = partial(self._rotate, tables), partial(self._rotate_backward, tables)
        ends = edges.source, edges.target
        return RotateAndScale.apply(*steps, nodes, radial, *ends, edges.packed)

    def sampled_silu(self, features: torch.Tensor, grid: Grid, first_row: int) -> torch.Tensor:
        if grid.factors is None:
            decline(self.device, ODD_GRID)
            return super().sampled_silu(features, grid, first_row)
        how = grid.factors, first_row
        steps = partial(self._silu, *how), partial(self._silu_backward, *how)
        return SampledSiLU.apply(*steps, features)

    def weigh_rotate_sum(
        self, values: torch.Tensor, attention: torch.Tensor, edges: Edges, degree: int | None
    ) -> torch.Tensor:
        if degree is not None:
            return super().weigh_rotate_sum(values, attention, edges, degree)
        tables = edge_tables(edges.layout)
        steps = partial(self._sum, tables), partial(self._sum_backward, tables)
        return WeighRotateSum.apply(*steps, values, attention, edges.packed, edges.offsets)

    @abstractmethod
    def _rotate(self, tables: EdgeTables, *tensors: torch.Tensor) -> torch.Tensor:
        """Of nodes, radial weights, sources, targets, packed Wigner rows; see `rotated`."""

    @abstractmethod
    def _rotate_backward(
        self, tables: EdgeTables, gradient: torch.Tensor, needed: Needed, *tensors: torch.Tensor
    ) -> Tensors:
        """Gradients by nodes and radial weights."""

    @abstractmethod
    def _silu(self, factors: GridFactors, first_row: int, features: torch.Tensor) -> torch.Tensor:
        """``from_grid[first_row:] @ silu(to_grid @ features)``, of the dtype of ``features``."""

    @abstractmethod
    def _silu_backward(
        self,
        factors: GridFactors,
        first_row: int,
        gradient: torch.Tensor,
        needed: Needed,
        features: torch.Tensor,
    ) -> Tensors:
        """The gradient by features."""

    @abstractmethod
    def _sum(self, tables: EdgeTables, *tensors: torch.Tensor) -> torch.Tensor:
        """Of values, attention, packed Wigner rows, offsets; of the dtype of the values."""

    @abstractmethod
    def _sum_backward(
        self, tables: EdgeTables, gradient: torch.Tensor, needed: Needed, *tensors: torch.Tensor
    ) -> Tensors:
        """Gradients by values and attention."""


class _Operation(torch.autograd.Function):
    """``forward_step(*tensors)``; ``backward_step`` gives gradients by the first of them."""

    @staticmethod
    def forward(ctx, forward_step: Callable, backward_step: Callable, *tensors: torch.Tensor):
        tensors = tuple(tensor.contiguous() for tensor in tensors)
        ctx.save_for_backward(*tensors)
        ctx.backward_step = backward_step
        return forward_step(*tensors)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor):
        tensors, needed = ctx.saved_tensors, ctx.needs_input_grad[2:]
        gradients = ctx.backward_step(gradient.contiguous(), needed, *tensors)
        others = [None] * (len(tensors) - len(gradients))
        return None, None, *gradients, *others


# Under names of their own in profiles.
class RotateAndScale(_Operation):
    """See `FusedKernels.rotated`."""


class SampledSiLU(_Operation):
    """See `FusedKernels.sampled_silu`."""


class WeighRotateSum(_Operation):
    """See `FusedKernels.weigh_rotate_sum`."""


@cache
def decline(device: Literal["CPU", "GPU"], reason: str) -> None:
    """Say once why fused kernels do not run on a device."""
    log_kernels(logging.INFO, device, f"torch operators ({reason})")


def log_kernels(level: int, device: Literal["CPU", "GPU"], which: str) -> None:
    """Say which kernels run on a device."""
    logging.getLogger(__name__).log(level, "attention kernels on the %s: %s", device, which)
