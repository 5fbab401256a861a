"""What nodes begin with: elements and tags, neighbours, forces of DeNS."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from eqv2_plugin.backbones.equiformer_v1.edges import Edges
from eqv2_plugin.backbones.equiformer_v1.irreps import Channels, join_degrees, width
from eqv2_plugin.backbones.equiformer_v1.linear import DegreeLinear, normal
from eqv2_plugin.backbones.equiformer_v1.paths import creation_order, make_path, num_slots, paths_to
from eqv2_plugin.backbones.equiformer_v1.radial import OffsetRadialFunction
from eqv2_plugin.kernels.gather import gather_few
from eqv2_plugin.kernels.linear import linear
from eqv2_plugin.kernels.segments import sum_over_neighbours
from eqv2_plugin.layers.constants import ExactConstants
from eqv2_plugin.layers.force_embedding import force_harmonics


class TypeEmbedding(nn.Module):
    """Scalars by the type of an atom (its element, its tag), zero in higher degrees.

    Args:
        num_types: types are 0..num_types - 1.
        channels: C_l.
        types: the type at each row of the table, where not every number is one; others are refused.

    Shape: [N] -> [N, width].
    """

    def __init__(
        self, num_types: int, channels: Channels, types: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self.padding = width(channels) - channels[0]
        self.weight = nn.Parameter(torch.randn(num_types, channels[0]))
        self.bias = nn.Parameter(torch.zeros(channels[0]))
        rows = None
        if types is not None:
            # An index beyond the table is an error, also on a GPU.
            rows = torch.full((max(types) + 1,), num_types, dtype=torch.long)
            rows[torch.tensor(types)] = torch.arange(num_types)
        self.register_buffer("row_of_type", rows, persistent=False)

    def forward(self, types: torch.Tensor) -> torch.Tensor:
        rows = types if self.row_of_type is None else self.row_of_type[types]
        scalars = gather_few(self.weight, rows) + self.bias
        return nn.functional.pad(scalars, (0, self.padding))


class EdgeDegreeEmbedding(ExactConstants):
    """Sum over neighbours of learnable harmonics, over the square root of their average number.

    Constant scalars are multiplied with the harmonics of each edge, see `products`. Weights of
    paths from higher degrees, which those constants lack, stay in the state dict.

    Args:
        channels: C_l.
        num_basis, edge_channels: of the radial function.
        avg_degree: neighbours per atom.
    """

    def __init__(
        self, channels: Channels, num_basis: int, edge_channels: int, avg_degree: float
    ) -> None:
        super().__init__()
        lmax = len(channels) - 1
        slots = [num_slots(paths_to(degree, lmax), channels) for degree in range(lmax + 1)]
        self.channels = channels
        self.scale = avg_degree**-0.5
        self.constant = nn.Parameter(torch.randn(channels[0]))
        self.constant_bias = nn.Parameter(torch.zeros(channels[0]))
        # Scales in e3nn's order, in which the paths from degree 0 come first.
        self.radial = OffsetRadialFunction(num_basis, edge_channels, sum(slots))
        self.weight = nn.ParameterList(map(normal, channels, slots))
        self.bias = nn.Parameter(torch.zeros(channels[0]))
        first = [path for path in creation_order(lmax) if path[0] == 0]
        self.couplings = [make_path(*path).couplings[0] for path in first]

    def forward(self, edges: Edges) -> torch.Tensor:
        """[N, width]."""
        count = len(self.constant)
        scales = self.radial.first(edges.basis, len(self.channels) * count)
        scalars = (self.constant + self.constant_bias) * scales.unflatten(1, (-1, count))
        blocks = []
        for degree, coupling in enumerate(self.couplings):
            at_pole = linear(scalars[:, degree], self.weight[degree][:, :count] * coupling)
            if degree == 0:
                blocks.append((at_pole + self.bias).unsqueeze(1))
                continue
            # The row of order 0 is the direction of the edge.
            blocks.append(edges.rotations[degree][:, 0].unsqueeze(2) * at_pole.unsqueeze(1))
        summed = sum_over_neighbours(join_degrees(blocks), edges.target, edges.offsets)
        return self.scale * summed


class NodeForceEmbedding(nn.Module):
    """`ForceEmbedding` with channels by degree.

    Args:
        channels: C_l.
        sigma_encoding, force_scale: see `ForceEmbedding`.
    """

    def __init__(self, channels: Channels, sigma_encoding: bool, force_scale: float) -> None:
        super().__init__()
        self.force_scale = force_scale
        self.degrees = list(range(len(channels)))
        self.linear = DegreeLinear((1,) * len(channels), channels)
        self.sigma_linear = nn.Linear(1, channels[0]) if sigma_encoding else None

    def forward(self, forces: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """[N, width]; see `ForceEmbedding.forward`."""
        embedding = self.linear(force_harmonics(forces / self.force_scale, self.degrees))
        if self.sigma_linear is None:
            return embedding
        scalars = self.sigma_linear(sigma.unsqueeze(1))
        padding = embedding.shape[1] - scalars.shape[1]
        return embedding + nn.functional.pad(scalars, (0, padding))
