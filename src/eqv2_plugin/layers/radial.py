"""Radial basis and radial functions (section 3.5, "Radial Basis and Radial Function")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from eqv2_plugin.kernels.gather import one_hot
from eqv2_plugin.kernels.layer_norm import apply_layer_norm
from eqv2_plugin.kernels.linear import apply_linear, linear
from eqv2_plugin.layers.constants import ExactConstants

AtomPairs = Literal["per_block", "shared", "none"]

# exp(-60) is 1e-26 of the largest value, lost in any sum.
_VANISHING = -60.0


class GaussianBasis(ExactConstants):
    """Fixed Gaussians on [0, cutoff] whose width is twice their spacing.

    Shape: [E] distances in Å -> [E, num_basis].
    """

    def __init__(self, cutoff: float, num_basis: int) -> None:
        super().__init__()
        self.num_basis = num_basis
        centres = np.linspace(0.0, cutoff, num_basis)
        self.register_constant("centres", centres)
        self.exponent = -0.5 / (2.0 * (centres[1] - centres[0])) ** 2

    def forward(self, distances: torch.Tensor) -> torch.Tensor:
        powers = self.exponent * (distances.unsqueeze(1) - self.centres).square()
        if powers.device.type == "cpu":
            # Most would be numbers too small for a processor's fast path: ten times as long.
            powers = powers.clamp(min=_VANISHING)
        return torch.exp(powers)


class LearnableGaussianBasis(nn.Module):
    """Gaussians with learnable centres and widths, of Equiformer (QM9 and IS2RE models).

    Shape: [E] distances in Å -> [E, num_basis].
    """

    weight_decay = False

    def __init__(self, cutoff: float, num_basis: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.num_basis = num_basis
        self.mean = nn.Parameter(torch.rand(1, num_basis))
        self.std = nn.Parameter(torch.empty(1, num_basis).uniform_(1.0 / num_basis, 1.0))
        self.weight = nn.Parameter(torch.ones(1, 1))
        self.bias = nn.Parameter(torch.zeros(1, 1))

    def forward(self, distances: torch.Tensor) -> torch.Tensor:
        scaled = self.weight * (distances / self.cutoff).unsqueeze(1) + self.bias
        width = self.std.abs() + 1e-5
        # 3.14159, not pi, is what published weights were trained with.
        norm = (2 * 3.14159) ** 0.5 * width
        return torch.exp(-0.5 * ((scaled - self.mean) / width).square()) / norm


class EndElements(NamedTuple):
    """Elements at both ends of some edges.

    Attributes:
        source, target: [E] atomic numbers.
        one_hot: [E, 2 max_num_elements], ones at the source's element and, in the second half, at
            the target's; None on a CPU, where rows are better picked.
    """

    source: torch.Tensor
    target: torch.Tensor
    one_hot: torch.Tensor | None = None

    def cut(self, edges: slice) -> EndElements:
        """Those of some edges."""
        return EndElements(*(None if part is None else part[edges] for part in self))


def end_elements(
    numbers: torch.Tensor,
    source: torch.Tensor,
    target: torch.Tensor,
    max_num_elements: int,
    dtype: torch.dtype,
) -> EndElements:
    """From atomic numbers [N], and the atoms at both ends, [E] each."""
    ends = numbers.index_select(0, source), numbers.index_select(0, target)
    if numbers.device.type == "cpu":
        return EndElements(*ends)
    if source.device.type == "cuda" and torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")  # else every product would cast it again
    return EndElements(*ends, one_hot(torch.stack(ends, dim=1), max_num_elements, dtype).flatten(1))


class AtomPairEmbedding(nn.Module):
    """Scalars for the elements of the source and target atom of an edge (section C).

    Args:
        max_num_elements: atomic numbers below this are known.
        channels: d_edge.
    """

    def __init__(self, max_num_elements: int, channels: int) -> None:
        super().__init__()
        self.source = nn.Embedding(max_num_elements, channels)
        self.target = nn.Embedding(max_num_elements, channels)
        nn.init.uniform_(self.source.weight, -0.001, 0.001)
        nn.init.uniform_(self.target.weight, -0.001, 0.001)


class RadialFunction(nn.Module):
    """Two hidden layers, each with layer norm and SiLU, then a linear layer.

    The first layer acts on (radial basis, source scalars, target scalars). Its product
    with the scalars is tabulated per element, so nothing of that width is built per edge.

    Args:
        num_basis: number of radial basis functions.
        channels: d_edge, the width of the hidden layers and of the atom-pair scalars.
        out_features: number of outputs.
        atom_pairs: whether atom-pair scalars enter.
    """

    def __init__(self, num_basis: int, channels: int, out_features: int, atom_pairs: bool) -> None:
        super().__init__()
        self.num_basis = num_basis
        self.channels = channels
        in_features = num_basis + (2 * channels if atom_pairs else 0)
        self.hidden_1 = nn.Linear(in_features, channels)
        self.norm_1 = nn.LayerNorm(channels)
        self.hidden_2 = nn.Linear(channels, channels)
        self.norm_2 = nn.LayerNorm(channels)
        self.output = nn.Linear(channels, out_features)
        for layer in (self.hidden_1, self.hidden_2, self.output):
            bound = layer.in_features**-0.5
            nn.init.uniform_(layer.weight, -bound, bound)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        basis: torch.Tensor,
        elements: EndElements,
        atom_pairs: AtomPairEmbedding | None,
    ) -> torch.Tensor:
        """Edge weights, [E, out_features]; see `hidden` for the arguments."""
        return self.outputs(self.hidden(basis, elements, atom_pairs))

    def hidden(
        self,
        basis: torch.Tensor,
        elements: EndElements,
        atom_pairs: AtomPairEmbedding | None,
    ) -> torch.Tensor:
        """What the last linear layer acts on.

        Args:
            basis: [E, num_basis].
            elements: of the edges.
            atom_pairs: the scalars' embedding, or None.

        Returns:
            [E, channels].
        """
        if atom_pairs is None:
            hidden = apply_linear(self.hidden_1, basis)  # [E, channels]
        else:
            sizes = [self.num_basis, self.channels, self.channels]
            of_basis, of_source, of_target = self.hidden_1.weight.split(sizes, dim=1)
            hidden = linear(basis, of_basis, self.hidden_1.bias)  # [E, channels]
            # [elements, channels]
            sources = linear(atom_pairs.source.weight, of_source)
            targets = linear(atom_pairs.target.weight, of_target)
            if elements.one_hot is None:
                hidden = hidden + sources.index_select(0, elements.source)
                hidden = hidden + targets.index_select(0, elements.target)
            else:
                # As a product, whose derivative is one, too: see `kernels.gather`.
                tables = torch.cat((sources, targets))
                hidden = torch.addmm(hidden, elements.one_hot, tables)
        hidden = nn.functional.silu(apply_layer_norm(self.norm_1, hidden))
        hidden = apply_linear(self.hidden_2, hidden)
        return nn.functional.silu(apply_layer_norm(self.norm_2, hidden))

    def outputs(self, hidden: torch.Tensor, columns: slice = slice(None)) -> torch.Tensor:
        """Some columns of the edge weights, [E, number of columns]."""
        if columns == slice(None):  # a slice's derivative would fill a matrix with zeros
            return apply_linear(self.output, hidden)
        return linear(hidden, self.output.weight[columns], self.output.bias[columns])


@dataclass(frozen=True)
class RadialOptions:
    """What all radial functions of a model have in common.

    Attributes:
        num_basis: number of radial basis functions.
        channels: d_edge.
        atom_pairs: whether each layer has atom-pair scalars of its own, all share some, or none.
        max_num_elements: atomic numbers below this are known.
    """

    num_basis: int
    channels: int
    atom_pairs: AtomPairs
    max_num_elements: int

    def pairs(self, kind: AtomPairs) -> AtomPairEmbedding | None:
        """An embedding of atom pairs where this kind of it is wanted."""
        wanted = self.atom_pairs == kind
        return AtomPairEmbedding(self.max_num_elements, self.channels) if wanted else None

    def function(self, out_features: int) -> RadialFunction:
        """A radial function with so many outputs."""
        pairs = self.atom_pairs != "none"
        return RadialFunction(self.num_basis, self.channels, out_features, pairs)
