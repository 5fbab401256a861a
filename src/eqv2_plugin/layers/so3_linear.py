"""Degree-wise linear layer (section 3.5): mixes channels, never orders or degrees."""

from __future__ import annotations

import torch
from torch import nn

from eqv2_plugin.geometry.irreps import degree_of_row, degree_slice
from eqv2_plugin.kernels.linear import fits_onednn, linear
from eqv2_plugin.kernels.segments import gather_at_targets


class SO3Linear(nn.Module):
    """One weight matrix per degree, a bias for degree 0 only.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        lmax: maximum degree.

    Shape:
        [N, (lmax+1)^2, C_in] -> [N, (lmax+1)^2, C_out].
    """

    def __init__(self, in_channels: int, out_channels: int, lmax: int) -> None:
        super().__init__()
        self.lmax = lmax
        self.weight = nn.Parameter(torch.empty(lmax + 1, out_channels, in_channels))
        rows, offsets = degree_of_row(lmax), [degree_slice(l).start for l in range(lmax + 2)]
        self.register_buffer("row_degree", torch.tensor(rows), persistent=False)
        self.register_buffer("degree_offsets", torch.tensor(offsets), persistent=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        bound = in_channels**-0.5
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if not fits_onednn(features, self.weight[0]):
            return self._all_rows(features)
        blocks = features.split([2 * l + 1 for l in range(self.lmax + 1)], dim=1)
        return torch.cat([self.degree(block, l) for l, block in enumerate(blocks)], dim=1)

    def _all_rows(self, features: torch.Tensor) -> torch.Tensor:
        """Every row with the matrix of its degree: one product instead of one per degree."""
        # [rows, C_out, C_in]
        weights = gather_at_targets(self.weight, self.row_degree, self.degree_offsets)
        bias = nn.functional.pad(self.bias.view(1, 1, -1), (0, 0, 0, 0, 0, len(weights) - 1))
        rows = torch.baddbmm(bias, features.transpose(0, 1), weights.transpose(1, 2))
        return rows.transpose(0, 1)

    def degree(self, block: torch.Tensor, degree: int) -> torch.Tensor:
        """The layer for the rows of one degree, [N, 2l+1, C_in]."""
        bias = self.bias if degree == 0 else None
        return linear(block, self.weight[degree], bias)
