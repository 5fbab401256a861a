"""SO(2) linear layer: the eSCN convolution in the edge frame (section 2.3, A.3).

In the edge frame a rotation-equivariant map may mix degrees and channels of one order
m freely, and orders +m and -m only like a complex number:

    (y_+)   (W_r  -W_i) (x_+)
    (y_-) = (W_i   W_r) (x_-).

Three products instead of four serve, as for complex numbers (Gauss): with
``k = W_r (x_+ + x_-)``, ``y_+ = k - (W_r + W_i) x_-`` and ``y_- = k + (W_i - W_r) x_+``. They
round a little more, so small layers, which gain nothing, keep to four, and so do tensor cores,
whose products cost less than the further sums.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from eqv2_plugin.common.tracing import is_traced
from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.kernels.interface import OrderBlock
from eqv2_plugin.kernels.linear import linear, reduced_precision
from eqv2_plugin.kernels.reference import blocks_of_orders

# Entries of W_r and W_i below which four products serve as well as three.
_SMALL = 2**15

Pair = tuple[torch.Tensor, torch.Tensor]
Rows = tuple[torch.Tensor | None, torch.Tensor | None]


@dataclass(frozen=True)
class FourProducts:
    """The complex matrix of an order m > 0, for small layers: W_r over W_i, [2 n C_out, n C_in]."""

    stacked: torch.Tensor

    def multiply(self, plus: torch.Tensor, minus: torch.Tensor, out: Rows = (None, None)) -> Pair:
        """y_+ and y_-, [E, n C_out] each; ``out``: where to, without derivative."""
        real_plus, imaginary_plus = linear(plus, self.stacked).chunk(2, dim=1)
        real_minus, imaginary_minus = linear(minus, self.stacked).chunk(2, dim=1)
        return (
            torch.sub(real_plus, imaginary_minus, out=out[0]),
            torch.add(imaginary_plus, real_minus, out=out[1]),
        )


@dataclass(frozen=True)
class ThreeProducts:
    """The complex matrix of an order m > 0: W_r, W_i - W_r and W_r + W_i."""

    real: torch.Tensor
    difference: torch.Tensor
    total: torch.Tensor

    def multiply(self, plus: torch.Tensor, minus: torch.Tensor, out: Rows = (None, None)) -> Pair:
        """As `FourProducts.multiply`."""
        common = linear(plus + minus, self.real)
        return (
            torch.sub(common, linear(minus, self.total), out=out[0]),
            torch.add(common, linear(plus, self.difference), out=out[1]),
        )


@dataclass(frozen=True)
class OrderMatrices:
    """What an SO(2) linear layer multiplies with: for order 0, and for every m > 0."""

    scalar: torch.Tensor
    pairs: list[FourProducts | ThreeProducts]


class SO2Linear(nn.Module):
    """Linear map of order-major edge features, GEMMs order by order.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        layout: layout of the edge features, the same for input and output.
        extra_scalars: further scalar outputs computed from order 0.

    Shape:
        [E, layout.size, C_in] -> ([E, layout.size, C_out], [E, extra_scalars]).

    Parameters keep the published shapes: ``order_weights[m - 1]`` stacks W_r over W_i.
    """

    def __init__(
        self, in_channels: int, out_channels: int, layout: EdgeLayout, extra_scalars: int = 0
    ) -> None:
        super().__init__()
        self.layout = layout
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.extra_scalars = extra_scalars
        degrees = layout.lmax + 1
        self.linear_m0 = nn.Linear(degrees * in_channels, extra_scalars + degrees * out_channels)
        nn.init.zeros_(self.linear_m0.bias)
        self.order_weights = nn.ParameterList()
        for order in range(1, layout.mmax + 1):
            count = layout.num_degrees(order)
            weight = torch.empty(2 * count * out_channels, count * in_channels)
            # Two such products are added, hence the further 1/sqrt(2).
            bound = (2 * count * in_channels) ** -0.5
            self.order_weights.append(nn.Parameter(nn.init.uniform_(weight, -bound, bound)))

    def matrices(self, degree: int | None = None) -> OrderMatrices:
        """For `forward`; make them once for many edges.

        Args:
            degree: only the rows of this degree; orders above it have none.
        """
        highest = self.layout.mmax if degree is None else min(degree, self.layout.mmax)
        pairs = [self._pair(order, degree) for order in range(1, highest + 1)]
        return OrderMatrices(self._scalar_rows(self.linear_m0.weight, degree), pairs)

    def forward(
        self,
        features: torch.Tensor,
        degree: int | None = None,
        matrices: OrderMatrices | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mix degrees and channels order by order.

        Args:
            features: [E, layout.size, C_in], order-major.
            degree: return only the rows of this degree, orders ascending.
            matrices: `matrices(degree)`, made beforehand.

        Returns:
            [E, layout.size, C_out] (or [E, 2 min(degree, mmax) + 1, C_out]) and the
            extra scalars [E, extra_scalars].
        """
        return self.from_blocks(blocks_of_orders(features, self.layout), degree, matrices)

    def from_blocks(
        self,
        blocks: Iterable[OrderBlock],
        degree: int | None = None,
        matrices: OrderMatrices | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`forward` of features that come order by order.

        Args:
            blocks: order 0, then every m > 0.
            degree, matrices: see `forward`.
        """
        if matrices is None:
            matrices = self.matrices(degree)
        ordered = iter(blocks)
        bias = self._scalar_rows(self.linear_m0.bias, degree)
        (scalars,) = next(ordered)
        mixed = linear(scalars, matrices.scalar, bias)  # [E, extra_scalars + n C_out]
        extra, mixed = mixed.split([self.extra_scalars, mixed.shape[1] - self.extra_scalars], dim=1)
        recorded = torch.is_grad_enabled() or is_traced()
        if degree is None and not recorded:
            # Into place: joining the orders afterwards would cost another pass over all of it.
            merged = mixed.new_empty(len(mixed), self.layout.size, self.out_channels)
            merged[:, self.layout.order_slice(0)] = mixed.unflatten(1, (-1, self.out_channels))
            for order, (pair, block) in enumerate(zip(matrices.pairs, ordered, strict=True), 1):
                rows = merged[:, self.layout.order_slice(order)].flatten(1)  # [E, 2 n C_out]
                pair.multiply(*block, out=rows.chunk(2, dim=1))
            return merged, extra
        outputs = [mixed]
        # Blocks of orders that cannot reach the wanted degree are not even made.
        for pair, block in zip(matrices.pairs, ordered, strict=False):
            outputs += pair.multiply(*block)
        if degree is not None:
            outputs = _ascending(outputs)
        merged = torch.cat(outputs, dim=1)  # [E, rows C_out]
        return merged.unflatten(1, (-1, self.out_channels)), extra

    def _scalar_rows(self, parameter: torch.Tensor, degree: int | None) -> torch.Tensor:
        """Weight or bias of order 0, cut to the extra scalars and one degree."""
        if degree is None:
            return parameter
        start = self.extra_scalars + degree * self.out_channels
        rows = parameter[start : start + self.out_channels]
        if self.extra_scalars == 0:
            return rows
        return torch.cat((parameter[: self.extra_scalars], rows))

    def _pair(self, order: int, degree: int | None) -> FourProducts | ThreeProducts:
        """The matrices of one order, cut to the rows of one degree."""
        stacked = self.order_weights[order - 1]
        if degree is not None:
            start = (degree - order) * self.out_channels
            parts = stacked.unflatten(0, (2, -1))[:, start : start + self.out_channels]
            stacked = parts.flatten(0, 1)
        if stacked.numel() < _SMALL or reduced_precision(stacked.device):
            return FourProducts(stacked)
        real, imaginary = stacked.chunk(2, dim=0)
        return ThreeProducts(real, imaginary - real, real + imaginary)


def _ascending(outputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """From rows 0, +1, -1, ... of one degree to -k, ..., 0, ..., +k."""
    ascending = [outputs[0]]
    for plus, minus in zip(outputs[1::2], outputs[2::2], strict=True):
        ascending = [minus, *ascending, plus]
    return ascending
