"""What a set of kernels offers: three operations on the edges of a batch.

The sets are `reference.ReferenceKernels` (torch operators, any dtype and device, every derivative),
`numba_kernels.NumbaKernels` (a CPU) and `triton_kernels.TritonKernels` (a GPU).
`choice.choose_kernels` picks one per forward pass; it travels with the edges.

What a GPU needs besides has one place each. *Precision*: `choose_kernels` alone looks at dtypes and
autocast; results have the dtype of the tensor that their docstring names, and kernels compute in
float32 within. *Static shapes*: sizes of edge tensors come from `Edges` alone, whose maker may pad
them before it calls `pack`: edges between padding nodes reach no other node, so that no kernel
needs to know of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from eqv2_plugin.geometry.irreps import EdgeLayout

if TYPE_CHECKING:
    from eqv2_plugin.kernels.tables import GridFactors

# Features of one order, [E, n C]: of m = 0, or of +m and -m.
OrderBlock = tuple[torch.Tensor, ...]


class Edges(Protocol):
    """What kernels read of `layers.edges.EdgeBatch`; see there."""

    source: torch.Tensor
    target: torch.Tensor
    offsets: torch.Tensor
    wigner: list[torch.Tensor]
    packed: torch.Tensor | None
    layout: EdgeLayout

    @property
    def local_target(self) -> torch.Tensor:
        """Targets counted from the first one."""


class Grid(Protocol):
    """What kernels read of `layers.sphere_grid.SphereGrid`; see there."""

    factors: GridFactors | None

    def silu(self, features: torch.Tensor, first_row: int) -> torch.Tensor:
        """SiLU of every sample, by torch operators."""


@dataclass(frozen=True)
class RadialWeights:
    """Radial weights of some edges, made when a kernel asks for them.

    Attributes:
        make: from columns to the weights, [E, number of columns].
        layout: of the edge features that they scale.
        channels: of these features, sources and targets side by side (2C).
        shared: all orders of a degree share theirs (``use_m_share_rad``).
    """

    make: Callable[[slice], torch.Tensor]
    layout: EdgeLayout
    channels: int
    shared: bool

    def columns(self, order: int) -> slice:
        """Where the weights of an order m >= 0 lie."""
        return self.layout.radial_columns(order, self.channels, self.shared)

    def of_order(self, order: int) -> torch.Tensor:
        """[E, n 2C] for the n = lmax + 1 - m degrees that have order m >= 0."""
        return self.make(self.columns(order))

    def by_order(self) -> Sequence[torch.Tensor]:
        """`of_order` of all orders, made in one go."""
        orders, whole = range(self.layout.mmax + 1), self.whole()
        if self.shared:
            return [whole[:, self.columns(order)] for order in orders]
        # The derivative of a split is one concatenation.
        sizes = [self.layout.num_degrees(order) * self.channels for order in orders]
        return whole.split(sizes, dim=1)

    def whole(self) -> torch.Tensor:
        """All of them, [E, layout.radial_size(channels, shared)]."""
        return self.make(slice(None))


class Kernels(ABC):
    """The operations of the attention that are worth a kernel."""

    @abstractmethod
    def pack(self, wigner: list[torch.Tensor]) -> torch.Tensor | None:
        """The blocks of `geometry.wigner.wigner_rows` as these kernels want them, or None."""

    @abstractmethod
    def gather_rotate_scale(
        self, nodes: torch.Tensor, edges: Edges, weights: RadialWeights
    ) -> Iterator[OrderBlock]:
        """Sources and targets in the edge's frame, times radial weights, order by order.

        Args:
            nodes: [N, (lmax+1)^2, C].
            edges: of some targets.
            weights: for 2C channels, sources before targets.
        """

    @abstractmethod
    def sampled_silu(self, features: torch.Tensor, grid: Grid, first_row: int) -> torch.Tensor:
        """SiLU on samples on the sphere, and back: [E, K, C] -> [E, K - first_row, C]."""

    def separable_silu(
        self, features: torch.Tensor, scalars: torch.Tensor, grid: Grid
    ) -> torch.Tensor:
        """`sampled_silu` of [E, K, C] from row 1 on, and SiLU of scalars [E, C] as row 0."""
        tensors = self.sampled_silu(features, grid, first_row=1)
        return torch.cat((torch.nn.functional.silu(scalars).unsqueeze(1), tensors), dim=1)

    @abstractmethod
    def weigh_rotate_sum(
        self, values: torch.Tensor, attention: torch.Tensor, edges: Edges, degree: int | None
    ) -> torch.Tensor:
        """Attention-weighted values in the global frame, summed at their targets.

        Args:
            values: [E, layout.size, C], order-major; [E, 2 min(degree, mmax) + 1, C], orders
                ascending, of one degree.
            attention: [E, H]; head h weighs the channels h C/H to (h+1) C/H.
            edges: of some targets.
            degree: the only one, or None for all.

        Returns:
            [targets, (lmax+1)^2, C], or [targets, 2 degree + 1, C].
        """
