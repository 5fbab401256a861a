"""Stochastic depth (EquiformerV2, section C)."""

from __future__ import annotations

import torch
from torch import nn


class StochasticDepth(nn.Module):
    """Drops a residual branch for whole structures, scaling up the others (section C).

    Args:
        rate: probability of dropping.

    Shape:
        branch [N, ...], structure_of_atom [N] -> [N, ...].
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(
        self, branch: torch.Tensor, structure_of_atom: torch.Tensor, num_structures: int
    ) -> torch.Tensor:
        if self.rate == 0.0 or not self.training:
            return branch
        keep = 1.0 - self.rate
        shape = (num_structures, *[1] * (branch.ndim - 1))
        kept = torch.rand(shape, device=branch.device) < keep
        return branch * (kept.to(branch.dtype) / keep)[structure_of_atom]
