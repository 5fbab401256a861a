"""Equivariant activations (section 3.3, A.4, Figure 2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from eqv2_plugin.kernels.gather import gather_few
from eqv2_plugin.kernels.interface import Kernels
from eqv2_plugin.kernels.reference import REFERENCE
from eqv2_plugin.layers.sphere_grid import SphereGrid

ActivationType = Literal["gate", "s2", "sep_s2"]


def smooth_leaky_relu(x: torch.Tensor, negative_slope: float = 0.2) -> torch.Tensor:
    """Leaky ReLU with |x| replaced by ``x (2 sigmoid(x) - 1)`` (Equiformer).

    This is ``negative_slope x + (1 - negative_slope) SiLU(x)``.
    """
    return torch.lerp(nn.functional.silu(x), x, negative_slope)


def gate(features: torch.Tensor, gates: torch.Tensor, gate_of_row: torch.Tensor) -> torch.Tensor:
    """Gate activation: SiLU on degree 0, sigmoid gates on higher degrees.

    Args:
        features: [N, K, C], row 0 the scalars.
        gates: [N, lmax * C] gate logits, degree-major.
        gate_of_row: [K - 1] index into the lmax gates for rows 1..K-1.
    """
    scalars = nn.functional.silu(features[:, :1])
    weights = torch.sigmoid(gates).unflatten(1, (-1, features.shape[2]))
    return torch.cat((scalars, features[:, 1:] * gather_few(weights, gate_of_row, dim=1)), dim=1)


class EquivariantActivation(nn.Module):
    """One of the three activations of Table 1a, on features of any row order with l=0 first.

    Args:
        kind: "gate", "s2" or "sep_s2".
        row_degrees: degree of every row.
        grid: matrices for exactly these rows (unused by "gate").
        channels: C.

    Shape:
        features [N, K, C] and scalars [N, num_scalars] -> [N, K, C]; ``kernels`` compute the
        S2 activation.
    """

    def __init__(
        self, kind: ActivationType, row_degrees: list[int], grid: SphereGrid | None, channels: int
    ) -> None:
        super().__init__()
        self.kind = kind
        self.channels = channels
        self.lmax = max(row_degrees)
        self.grid = grid
        gates = torch.tensor(row_degrees[1:], dtype=torch.long) - 1
        self.register_buffer("gate_of_row", gates, persistent=False)

    @property
    def num_scalars(self) -> int:
        """How many further scalars the activation consumes."""
        return {"gate": self.lmax, "s2": 0, "sep_s2": 1}[self.kind] * self.channels

    def forward(
        self, features: torch.Tensor, scalars: torch.Tensor, kernels: Kernels = REFERENCE
    ) -> torch.Tensor:
        if self.kind == "gate":
            return gate(features, scalars, self.gate_of_row)
        if self.kind == "s2":
            return kernels.sampled_silu(features, self.grid, first_row=0)
        return kernels.separable_silu(features, scalars, self.grid)
