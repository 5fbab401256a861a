"""Equivariant normalisations (section 3.4, Figure 3; ablated in Tables 1a and 14).

All act on degree-major features [N, (lmax+1)^2, C] and keep their shape. Statistics
are taken in float32 at least, also under autocast.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import nn

from eqv2_plugin.geometry.exact import exact_einsum
from eqv2_plugin.geometry.irreps import degree_of_row, degree_slice
from eqv2_plugin.kernels.gather import gather_few
from eqv2_plugin.kernels.layer_norm import apply_layer_norm
from eqv2_plugin.kernels.segments import gather_at_targets
from eqv2_plugin.layers.constants import ExactConstants

NormType = Literal["layer_norm", "layer_norm_sh", "rms_norm_sh"]

_EPSILON = 1e-5


def make_norm(norm_type: NormType, lmax: int, channels: int) -> nn.Module:
    """The normalisation published under this name.

    Raises:
        ValueError: unknown name.
    """
    classes = {
        "layer_norm": DegreeLayerNorm,
        "layer_norm_sh": SeparableLayerNorm,
        "rms_norm_sh": EquivariantRMSNorm,
    }
    if norm_type not in classes:
        raise ValueError(f"norm_type must be one of {sorted(classes)}, got {norm_type!r}")
    return classes[norm_type](lmax, channels)


class EquivariantNorm(ExactConstants):
    """Shared pieces: rows to degrees, and the mean square over orders of each degree."""

    weight_decay = False

    def __init__(self, lmax: int, first_degree: int) -> None:
        super().__init__()
        self.lmax = lmax
        degrees = [l for l in degree_of_row(lmax) if l >= first_degree]
        starts = [degree_slice(l).start for l in range(first_degree, lmax + 2)]
        offsets = torch.tensor(starts) - starts[0]
        row_degree = torch.tensor(degrees, dtype=torch.long) - first_degree
        self.register_buffer("row_degree", row_degree, persistent=False)
        self.register_buffer("degree_offsets", offsets, persistent=False)
        per_row = np.array([1.0 / (2 * l + 1) for l in degrees])
        self.register_constant("row_weight", per_row / max(lmax + 1 - first_degree, 1))
        self.register_constant("epsilon", np.array([_EPSILON]))

    def rows_of(self, weight: torch.Tensor) -> torch.Tensor:
        """From one row per degree to one per order."""
        return gather_at_targets(weight, self.row_degree, self.degree_offsets)

    def inverse_rms(self, features: torch.Tensor) -> torch.Tensor:
        """1 / sqrt(mean over degrees, orders and channels + eps), [N, 1, 1]."""
        square = features.square().mean(dim=2)
        return torch.addmv(self.epsilon, square, self.row_weight).rsqrt().view(-1, 1, 1)


class SeparableLayerNorm(EquivariantNorm):
    """SLN: layer norm for degree 0, one common RMS for all higher degrees."""

    def __init__(self, lmax: int, channels: int) -> None:
        super().__init__(lmax, first_degree=1)
        self.scalar_norm = nn.LayerNorm(channels, eps=_EPSILON)
        self.weight = nn.Parameter(torch.ones(lmax, channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(self.weight.dtype)
            scalars = apply_layer_norm(self.scalar_norm, features[:, :1])
            if self.lmax == 0:
                return scalars
            tensors = features[:, 1:]
            scale = self.inverse_rms(tensors) * self.rows_of(self.weight)
            return torch.cat((scalars, tensors * scale), dim=1)


class EquivariantRMSNorm(EquivariantNorm):
    """One RMS for all degrees after centring degree 0."""

    def __init__(self, lmax: int, channels: int) -> None:
        super().__init__(lmax, first_degree=0)
        self.weight = nn.Parameter(torch.ones(lmax + 1, channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        with torch.autocast(features.device.type, enabled=False):
            features = _centred(features.to(self.weight.dtype))
            scale = self.inverse_rms(features) * self.rows_of(self.weight)
            return _add_to_scalars(features * scale, self.bias)


class DegreeLayerNorm(EquivariantNorm):
    """LN of Equiformer: every degree normalised by its own RMS."""

    def __init__(self, lmax: int, channels: int) -> None:
        super().__init__(lmax, first_degree=0)
        self.weight = nn.Parameter(torch.ones(lmax + 1, channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        pooling = np.zeros((len(self.row_degree), lmax + 1))
        for row, degree in enumerate(degree_of_row(lmax)):
            pooling[row, degree] = 1.0 / (2 * degree + 1)
        self.register_constant("degree_pooling", pooling)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        with torch.autocast(features.device.type, enabled=False):
            features = _centred(features.to(self.weight.dtype))
            square = features.square().mean(dim=2)  # [N, (lmax+1)^2]
            square = exact_einsum("nk,kl->nl", square, self.degree_pooling)
            scale = torch.rsqrt(square + _EPSILON).unsqueeze(2) * self.weight
            return _add_to_scalars(features * gather_few(scale, self.row_degree, dim=1), self.bias)


def _centred(features: torch.Tensor) -> torch.Tensor:
    scalars = features[:, :1]
    return torch.cat((scalars - scalars.mean(dim=2, keepdim=True), features[:, 1:]), dim=1)


def _add_to_scalars(features: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.cat((features[:, :1] + bias, features[:, 1:]), dim=1)
