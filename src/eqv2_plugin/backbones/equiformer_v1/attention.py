"""Graph attention with non-linear messages (Equiformer, section 4.3)."""

from __future__ import annotations

import torch
from torch import nn

from eqv2_plugin.backbones.equiformer_v1.activations import (
    num_gates,
    scaled_sigmoid,
    scaled_silu,
    scaled_smooth_leaky_relu,
)
from eqv2_plugin.backbones.equiformer_v1.edges import Edges
from eqv2_plugin.backbones.equiformer_v1.irreps import Channels, join_degrees, split_degrees
from eqv2_plugin.backbones.equiformer_v1.linear import DegreeLinear
from eqv2_plugin.backbones.equiformer_v1.products import EdgeProduct, FrameFeatures, Orders
from eqv2_plugin.backbones.equiformer_v1.radial import OffsetRadialFunction
from eqv2_plugin.kernels.gather import gather_at_sources
from eqv2_plugin.kernels.segments import (
    gather_at_targets,
    softmax_over_neighbours,
    sum_over_neighbours,
)


class GraphAttention(nn.Module):
    """Attention over the neighbours of every atom.

    Args:
        in_channels: C_l of the nodes.
        channels: C_l of the messages.
        head_channels: C_l of one head.
        num_heads: h.
        out_channels: C_l of the output.
        num_basis, edge_channels: of the radial function.
        alpha_drop: dropout of attention weights.
        computed: degrees of the output that are computed, by default all. The parameters that the
            other degrees alone would use stay in the state dict, but are frozen.

    Shape:
        nodes [N, width of in_channels] -> [N, width of the computed degrees of out_channels].
    """

    def __init__(
        self,
        in_channels: Channels,
        channels: Channels,
        head_channels: Channels,
        num_heads: int,
        out_channels: Channels,
        *,
        num_basis: int,
        edge_channels: int,
        alpha_drop: float,
        computed: range | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.num_heads = num_heads
        self.computed = range(len(out_channels)) if computed is None else computed
        self.source = DegreeLinear(in_channels, channels)
        self.target = DegreeLinear(in_channels, channels, bias=False)
        # Scalars and gates of the values, and what becomes attention weights.
        self.scalars = [channels[0], num_gates(channels), num_heads * head_channels[0]]
        self.product_1 = EdgeProduct(channels, (sum(self.scalars), *channels[1:]))
        self.bias_1 = nn.Parameter(torch.zeros(sum(self.scalars)))
        num_scales = sum(self.product_1.num_slots)
        self.radial = OffsetRadialFunction(num_basis, edge_channels, num_scales)
        self.alpha_dot = nn.Parameter(torch.empty(num_heads, head_channels[0]))
        nn.init.xavier_uniform_(self.alpha_dot)
        self.alpha_dropout = nn.Dropout(alpha_drop)
        values = tuple(num_heads * count for count in head_channels)
        self.product_2 = EdgeProduct(channels, values, self.computed)
        self.scales_2 = nn.Parameter(torch.randn(num_scales))
        self.bias_2 = nn.Parameter(torch.zeros(values[0]), requires_grad=0 in self.computed)
        self.projection = DegreeLinear(values, out_channels, degrees=self.computed)

    def forward(self, nodes: torch.Tensor, edges: Edges) -> torch.Tensor:
        messages = gather_at_sources(self.source(nodes), edges.source) + gather_at_targets(
            self.target(nodes), edges.target, edges.offsets
        )
        rotated = edges.into_frame(split_degrees(messages, self.channels))
        hidden = self.product_1(FrameFeatures.of_rows(rotated), self.radial.first(edges.basis))
        scalars = hidden[0][0].squeeze(1) + self.bias_1
        values, gates, alpha = scalars.split(self.scalars, dim=1)
        attention = self._attention_weights(alpha, edges)  # [E, H]
        gated = self._gated(values, gates, hidden)
        return self._weighed_sum(self.product_2(gated, self.scales_2), attention, edges)

    def _attention_weights(self, alpha: torch.Tensor, edges: Edges) -> torch.Tensor:
        with torch.autocast(alpha.device.type, enabled=False):
            alpha = alpha.to(self.alpha_dot.dtype).unflatten(1, self.alpha_dot.shape)
            logits = (scaled_smooth_leaky_relu(alpha) * self.alpha_dot).sum(2)
            weights = softmax_over_neighbours(logits, edges.target, edges.offsets)
        return self.alpha_dropout(weights)

    def _gated(self, values: torch.Tensor, gates: torch.Tensor, hidden: Orders) -> FrameFeatures:
        gates = scaled_sigmoid(gates).unsqueeze(1)  # [E, 1, channels of degrees > 0]
        lmax = len(self.channels) - 1
        higher = torch.cat([hidden[degree][0] for degree in range(1, lmax + 1)], dim=2)
        orders = [torch.cat((scaled_silu(values).unsqueeze(1), higher * gates), dim=2)]
        for order in range(1, lmax + 1):
            pairs = torch.cat([hidden[degree][order] for degree in range(order, lmax + 1)], dim=2)
            orders.append(pairs * gates[..., -pairs.shape[2] :])
        return FrameFeatures.of_orders(orders, self.channels)

    def _weighed_sum(self, values: Orders, attention: torch.Tensor, edges: Edges) -> torch.Tensor:
        weights = attention[:, None, :, None]  # [E, 1, H, 1]
        weighed = []
        for degree in self.computed:
            rows = torch.cat(values[degree], dim=1)  # [E, 2l + 1, H C]
            rows = edges.out_of_frame(rows + self.bias_2 if degree == 0 else rows, degree)
            weighed.append((rows.unflatten(2, (self.num_heads, -1)) * weights).flatten(2))
        summed = sum_over_neighbours(join_degrees(weighed), edges.target, edges.offsets)
        return self.projection(summed)
