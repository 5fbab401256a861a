"""Depthwise tensor products with the harmonics of an edge, each followed by a linear layer.

In the frame of the edge (see `paths`) a product copies channels into slots, one for each path, and
scales them. The couplings are constants, which here multiply the weights of the linear layer.
"""

from __future__ import annotations

import torch
from torch import nn

from eqv2_plugin.backbones.equiformer_v1.irreps import Channels
from eqv2_plugin.backbones.equiformer_v1.linear import freeze_others, normal
from eqv2_plugin.backbones.equiformer_v1.paths import (
    Path,
    coupling_columns,
    num_slots,
    paths_of_order,
    paths_to,
)
from eqv2_plugin.kernels.linear import linear
from eqv2_plugin.layers.constants import ExactConstants

# Features in the frame: by degree l, then by order m = 0..l, [E, 1, C_l] or, for the orders
# (-m, m), [E, 2, C_l].
Orders = list[list[torch.Tensor]]


class FrameFeatures:
    """Features in the frame of the edge, as the paths take them.

    Args:
        even: see `Orders`.
        odd: the same for m > 0 (the entries of m = 0 are not used), but minus the row of m, then
            the row of -m.
    """

    def __init__(self, even: Orders, odd: Orders) -> None:
        self.even = even
        self.odd = odd

    @classmethod
    def of_rows(cls, blocks: list[torch.Tensor]) -> FrameFeatures:
        """From the rows of `Edges.rotations`, [E, 4l + 1, C_l] by degree."""
        even: Orders = []
        odd: Orders = []
        for degree, block in enumerate(blocks):
            first, *rest = block.split([1] + 2 * degree * [2], dim=1)
            even.append([first, *rest[:degree]])
            odd.append([first, *rest[degree:]])
        return cls(even, odd)

    @classmethod
    def of_orders(cls, by_order: list[torch.Tensor], channels: Channels) -> FrameFeatures:
        """From [E, 1 or 2, sum of C_l for l >= m] by order m."""
        turned = [by_order[0]]
        for pair in by_order[1:]:
            turned.append(torch.stack((-pair[:, 1], pair[:, 0]), dim=1))
        return cls(_by_degree(by_order, channels), _by_degree(turned, channels))

    def slots(self, paths: list[Path], order: int) -> torch.Tensor:
        """[E, 1 or 2, slots], side by side."""
        kinds = (self.odd if path.odd else self.even for path in paths)
        pieces = [kind[path.source][order] for kind, path in zip(kinds, paths, strict=True)]
        return torch.cat(pieces, dim=2)


class EdgeProduct(ExactConstants):
    """Product and linear layer.

    Args:
        channels: C_l of the features.
        out_channels: C_l after the linear layer, of the same degrees.
        computed: degrees of the output that are computed; the weights of the others stay in the
            state dict, but are frozen.

    Attributes:
        num_slots: number of slots of each degree, degree 0 first, and of their scales.
    """

    def __init__(
        self, channels: Channels, out_channels: Channels, computed: range | None = None
    ) -> None:
        super().__init__()
        degrees = range(len(channels))
        self.computed = degrees if computed is None else computed
        self.paths = [paths_to(degree, len(channels) - 1) for degree in degrees]
        self.num_slots = [num_slots(paths, channels) for paths in self.paths]
        self.weight = nn.ParameterList(
            normal(out, slots) for out, slots in zip(out_channels, self.num_slots, strict=True)
        )
        freeze_others(self.weight, self.computed)
        # By degree and order: its paths, and where their slots begin and end.
        self.reached: list[list[tuple[list[Path], slice]]] = []
        for degree, paths in enumerate(self.paths):
            self.reached.append([])
            for order in range(degree + 1):
                first, end = paths_of_order(paths, order)
                start, size = (
                    num_slots(part, channels) for part in (paths[:first], paths[first:end])
                )
                self.reached[-1].append((paths[first:end], slice(start, start + size)))
                couplings = coupling_columns(paths[first:end], channels, order)
                self.register_constant(f"coupling_{degree}_{order}", couplings)

    def forward(self, features: FrameFeatures, scales: torch.Tensor) -> Orders:
        """Outputs of the computed degrees; the lists of the others are empty.

        Args:
            features: in the frame.
            scales: [E, slots of all degrees], or [slots of all degrees] for all edges.
        """
        outputs: Orders = [[] for _ in self.paths]
        by_degree = scales.split(self.num_slots, dim=-1)
        for degree in self.computed:
            for order, (paths, columns) in enumerate(self.reached[degree]):
                factor = getattr(self, f"coupling_{degree}_{order}")
                scale = by_degree[degree][..., columns]
                slots = features.slots(paths, order)  # [E, 1 or 2, slots]
                if scale.ndim == 1:
                    factor = factor * scale
                else:
                    slots = slots * scale.unsqueeze(1)
                outputs[degree].append(linear(slots, self.weight[degree][:, columns] * factor))
        return outputs


def _by_degree(by_order: list[torch.Tensor], channels: Channels) -> Orders:
    parts = [block.split(channels[order:], dim=2) for order, block in enumerate(by_order)]
    return [
        [parts[order][degree - order] for order in range(degree + 1)]
        for degree in range(len(channels))
    ]
