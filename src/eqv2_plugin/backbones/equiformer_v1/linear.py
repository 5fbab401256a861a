"""Linear layer on features whose degrees have their own numbers of channels."""

from __future__ import annotations

import torch
from torch import nn

from eqv2_plugin.backbones.equiformer_v1.irreps import Channels, join_degrees, split_degrees
from eqv2_plugin.kernels.linear import linear


class DegreeLinear(nn.Module):
    """One weight matrix per degree that both sides have, and a bias for degree 0.

    Args:
        in_channels, out_channels: C_l.
        bias: for degree 0, if the output has any.
        degrees: the features have these degrees only, and so has the output. The weights of the
            others stay in the state dict, but are frozen.

    Shape:
        [N, width of in_channels] -> [N, width of out_channels], or of the given degrees of them.
    """

    def __init__(
        self,
        in_channels: Channels,
        out_channels: Channels,
        bias: bool = True,
        degrees: range | None = None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        shared = range(min(len(in_channels), len(out_channels)))
        self.given = range(len(in_channels)) if degrees is None else degrees
        self.computed = shared if degrees is None else degrees
        self.weight = nn.ParameterList(normal(out_channels[l], in_channels[l]) for l in shared)
        has_bias = bias and out_channels[0] > 0
        self.bias = nn.Parameter(torch.zeros(out_channels[0])) if has_bias else None
        freeze_others(self.weight, self.computed)
        if self.bias is not None and 0 not in self.computed:
            self.bias.requires_grad_(False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        blocks = split_degrees(features, self.in_channels, self.given)
        by_degree = dict(zip(self.given, blocks, strict=True))
        return join_degrees([self.degree(by_degree[l], l) for l in self.computed])

    def degree(self, block: torch.Tensor, degree: int) -> torch.Tensor:
        """The layer for one degree, [N, rows, C_in] -> [N, rows, C_out]."""
        return linear(block, self.weight[degree], self.bias if degree == 0 else None)


def normal(out_features: int, in_features: int) -> nn.Parameter:
    """[out, in] weights of variance 1 / in."""
    return nn.Parameter(torch.randn(out_features, in_features) * max(in_features, 1) ** -0.5)


def freeze_others(weights: nn.ParameterList, computed: range) -> None:
    """Weights of degrees that are not computed reach no output, and are not trained."""
    for degree, weight in enumerate(weights):
        if degree not in computed:
            weight.requires_grad_(False)
