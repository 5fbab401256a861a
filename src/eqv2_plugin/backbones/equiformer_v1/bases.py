"""Radial bases of Equiformer."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import nn

from eqv2_plugin.layers.constants import ExactConstants
from eqv2_plugin.layers.radial import LearnableGaussianBasis

BasisType = Literal["exp_norm", "gaussian", "bessel"]


class ExpNormBasis(ExactConstants):
    """Gaussians in exp(-distance) under a cosine cutoff (PhysNet; the MD17 models).

    Shape: [E] distances in Å -> [E, num_basis].
    """

    def __init__(self, cutoff: float, num_basis: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        nearest = math.exp(-cutoff)
        self.register_constant("centres", np.linspace(nearest, 1.0, num_basis))
        self.steepness = (2.0 / num_basis * (1.0 - nearest)) ** -2

    def forward(self, distances: torch.Tensor) -> torch.Tensor:
        scaled = distances.unsqueeze(1) / self.cutoff
        envelope = 0.5 * (torch.cos(math.pi * scaled) + 1.0) * (scaled < 1.0).to(scaled.dtype)
        # The published decay is 5 Å / cutoff per Å.
        offset = torch.exp(-5.0 * scaled) - self.centres
        return envelope * torch.exp(-self.steepness * offset.square())


class BesselBasis(nn.Module):
    """Spherical Bessel functions of order 0 with learnable frequencies under a polynomial cutoff.

    Of GemNet (QM9 targets R2, zpve, U0, U, H and G).

    Shape: [E] distances in Å, none zero -> [E, num_basis].
    """

    weight_decay = False

    def __init__(self, cutoff: float, num_basis: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.frequencies = nn.Parameter(math.pi * torch.arange(1.0, num_basis + 1))

    def forward(self, distances: torch.Tensor) -> torch.Tensor:
        scaled = distances.unsqueeze(1) / self.cutoff
        envelope = 1.0 + scaled**5 * (-21.0 + scaled * (35.0 - 15.0 * scaled))
        envelope = envelope * (scaled < 1.0).to(scaled.dtype)
        waves = torch.sin(self.frequencies * scaled) / scaled
        return (2.0 / self.cutoff**3) ** 0.5 * envelope * waves


def make_basis(kind: BasisType, cutoff: float, num_basis: int) -> nn.Module:
    """A basis by its name."""
    classes = {"exp_norm": ExpNormBasis, "gaussian": LearnableGaussianBasis, "bessel": BesselBasis}
    return classes[kind](cutoff, num_basis)
