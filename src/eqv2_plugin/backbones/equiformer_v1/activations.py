"""Activations of Equiformer, each scaled to a second moment of 1 for normal inputs.

The factors are e3nn's estimates from a million seeded samples, which published weights know.
"""

from __future__ import annotations

import torch
from torch import nn

from eqv2_plugin.backbones.equiformer_v1.irreps import Channels
from eqv2_plugin.layers.activations import smooth_leaky_relu

_SILU = 1.6791767923989418
_SIGMOID = 1.8467055342154763
_SMOOTH_LEAKY_RELU = 1.531320475574866


def scaled_silu(x: torch.Tensor) -> torch.Tensor:
    """SiLU, for scalars."""
    return nn.functional.silu(x) * _SILU


def scaled_sigmoid(x: torch.Tensor) -> torch.Tensor:
    """The sigmoid, for gates."""
    return torch.sigmoid(x) * _SIGMOID


def scaled_smooth_leaky_relu(x: torch.Tensor) -> torch.Tensor:
    """Smooth leaky ReLU of slope 0.2, for attention logits."""
    return smooth_leaky_relu(x) * _SMOOTH_LEAKY_RELU


def num_gates(channels: Channels) -> int:
    """One gate for each channel of the degrees above 0."""
    return sum(channels[1:])
