"""Equivariant graph attention with attention re-normalization (section 3.5, Figure 1b)."""

from __future__ import annotations

import torch
from torch import nn

from eqv2_plugin.geometry.irreps import EdgeLayout
from eqv2_plugin.geometry.sphere_grid import edge_grid_matrices, grid_shape
from eqv2_plugin.kernels.interface import RadialWeights
from eqv2_plugin.kernels.layer_norm import apply_layer_norm
from eqv2_plugin.kernels.segments import softmax_over_neighbours
from eqv2_plugin.layers.activations import ActivationType, EquivariantActivation, smooth_leaky_relu
from eqv2_plugin.layers.edges import EdgeBatch
from eqv2_plugin.layers.radial import RadialOptions
from eqv2_plugin.layers.so2_linear import OrderMatrices, SO2Linear
from eqv2_plugin.layers.so3_linear import SO3Linear
from eqv2_plugin.layers.sphere_grid import SphereGrid


class EquivariantGraphAttention(nn.Module):
    """Attention over the neighbours of every atom.

    Args:
        layout: of edge features.
        channels, out_channels: C of the nodes, and of the output.
        num_heads, hidden_channels, alpha_channels, value_channels: h, d_attn_hidden, d_attn_alpha
            and d_attn_value.
        radial: options of the radial functions.
        share_radial: one radial weight per degree instead of per (degree, order).
        activation: between the two SO(2) layers.
        grid_resolution: R of the S2 grid, None for the smallest.
        renormalise: attention re-normalization.
        alpha_drop: dropout of attention weights.
        out_degree: compute this degree only (1 for a force head). The parameters that
            the other degrees alone would use stay in the state dict, but are frozen.

    Shape:
        nodes [N, (lmax+1)^2, C] -> [N, (lmax+1)^2, out_channels], or
        [N, 2 out_degree + 1, out_channels].
    """

    def __init__(
        self,
        layout: EdgeLayout,
        channels: int,
        out_channels: int,
        *,
        num_heads: int,
        hidden_channels: int,
        alpha_channels: int,
        value_channels: int,
        radial: RadialOptions,
        share_radial: bool,
        activation: ActivationType,
        grid_resolution: int | None,
        renormalise: bool,
        alpha_drop: float,
        out_degree: int | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.alpha_channels = alpha_channels
        self.out_degree = out_degree
        self.shares_radial = share_radial
        row_degrees = [degree for degree, _ in layout.rows]
        grid = None
        if activation != "gate":
            _, longitudes = grid_shape(layout.lmax, layout.mmax, grid_resolution)
            grid = SphereGrid(
                edge_grid_matrices(layout, grid_resolution),
                [order for _, order in layout.rows],
                longitudes,
            )
        hidden = hidden_channels
        self.activation = EquivariantActivation(activation, row_degrees, grid, hidden)
        num_alpha = num_heads * alpha_channels
        self.so2_linear_1 = SO2Linear(
            2 * channels, hidden, layout, num_alpha + self.activation.num_scalars
        )
        self.atom_pairs = radial.pairs("per_block")
        self.radial = radial.function(layout.radial_size(2 * channels, share_radial))
        self.renormalises = renormalise
        self.alpha_norm = nn.LayerNorm(alpha_channels) if renormalise else nn.Identity()
        bound = alpha_channels**-0.5
        self.alpha_dot = nn.Parameter(torch.empty(num_heads, alpha_channels))
        nn.init.uniform_(self.alpha_dot, -bound, bound)
        self.alpha_dropout = nn.Dropout(alpha_drop)
        values = num_heads * value_channels
        self.so2_linear_2 = SO2Linear(hidden, values, layout)
        self.projection = SO3Linear(values, out_channels, layout.lmax)
        if out_degree is not None:
            self._freeze_unreachable(out_degree)

    def forward(self, nodes: torch.Tensor, edges: EdgeBatch) -> torch.Tensor:
        # What is made outside of the recomputed part is kept until the backward pass.
        matrices = None if edges.recompute else self._matrices()
        summed = edges.by_chunk(self._attend, nodes, matrices)  # [N, rows, H V]
        if self.out_degree is None:
            return self.projection(summed)
        return self.projection.degree(summed, self.out_degree)

    def _attend(
        self,
        nodes: torch.Tensor,
        matrices: tuple[OrderMatrices, OrderMatrices] | None,
        edges: EdgeBatch,
    ) -> torch.Tensor:
        """Weighted values summed over neighbours, before the projection."""
        matrices = self._matrices() if matrices is None else matrices
        kernels = edges.kernels
        messages = kernels.gather_rotate_scale(nodes, edges, self._radial_weights(edges))
        hidden, scalars = self.so2_linear_1.from_blocks(messages, matrices=matrices[0])
        num_alpha = self.num_heads * self.alpha_channels
        alpha, gates = scalars.split([num_alpha, scalars.shape[1] - num_alpha], dim=1)
        hidden = self.activation(hidden, gates, kernels)  # [E, edge rows, d_attn_hidden]
        values, _ = self.so2_linear_2(hidden, degree=self.out_degree, matrices=matrices[1])
        attention = self._attention_weights(alpha, edges)  # [E, H]
        return kernels.weigh_rotate_sum(values, attention, edges, self.out_degree)

    def _radial_weights(self, edges: EdgeBatch) -> RadialWeights:
        hidden = self.radial.hidden(edges.basis, edges.elements, edges.pairs(self.atom_pairs))
        return RadialWeights(
            make=lambda columns: self.radial.outputs(hidden, columns),
            layout=edges.layout,
            channels=self.so2_linear_1.in_channels,
            shared=self.shares_radial,
        )

    def _matrices(self) -> tuple[OrderMatrices, OrderMatrices]:
        """Those of the two SO(2) layers, the same for all edges."""
        return self.so2_linear_1.matrices(), self.so2_linear_2.matrices(self.out_degree)

    def _attention_weights(self, alpha: torch.Tensor, edges: EdgeBatch) -> torch.Tensor:
        """[E, H], summing to 1 over the neighbours of an atom (before dropout)."""
        alpha = alpha.reshape(-1, self.num_heads, self.alpha_channels)
        if self.renormalises:
            alpha = apply_layer_norm(self.alpha_norm, alpha)
        logits = (smooth_leaky_relu(alpha) * self.alpha_dot).sum(dim=2)
        attention = softmax_over_neighbours(logits, edges.local_target, edges.offsets)
        return self.alpha_dropout(attention)

    def _freeze_unreachable(self, degree: int) -> None:
        """Parameters of orders above ``degree``, and biases of degree 0, cannot act on it."""
        if degree > 0:
            self.projection.bias.requires_grad_(False)
        layers = [self.so2_linear_2]
        if self.activation.kind == "gate":
            # Gates leave every order to itself; the S2 grid mixes orders.
            layers.append(self.so2_linear_1)
        for layer in layers:
            for weight in list(layer.order_weights)[degree:]:
                weight.requires_grad_(False)
