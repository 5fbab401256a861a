"""Feed-forward network with the grid MLP (section 3.5, Figure 1d)."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from eqv2_plugin.common.tracing import is_traced
from eqv2_plugin.geometry.irreps import degree_of_row
from eqv2_plugin.geometry.sphere_grid import sphere_grid_matrices
from eqv2_plugin.kernels.linear import apply_linear
from eqv2_plugin.layers.activations import ActivationType, EquivariantActivation
from eqv2_plugin.layers.so3_linear import SO3Linear
from eqv2_plugin.layers.sphere_grid import SphereGrid

_SAMPLES_AT_A_TIME = 2**18


class FeedForward(nn.Module):
    """Degree-wise linear, activation across degrees, degree-wise linear.

    With the grid MLP, the activation's function F on the sphere is a two-layer MLP with
    SiLU after each layer, and a final linear layer; with "sep_s2", degree 0 takes a
    path of its own.

    Args:
        lmax: maximum degree.
        channels, hidden_channels, out_channels: C, d_ffn and channels of the output.
        activation: across degrees.
        grid_mlp: whether F is the MLP.
        grid_resolution: R of the S2 grid, None for the smallest.
        recompute: compute intermediates again in the backward pass, to keep none.
        scalars_only: compute degree 0 of the output only (energy head). Parameters that
            cannot reach it stay in the state dict, but are frozen.

    Shape:
        [N, (lmax+1)^2, C] -> [N, (lmax+1)^2, out_channels], or [N, 1, out_channels].
    """

    def __init__(
        self,
        lmax: int,
        channels: int,
        hidden_channels: int,
        out_channels: int,
        *,
        activation: ActivationType,
        grid_mlp: bool,
        grid_resolution: int | None,
        recompute: bool = False,
        scalars_only: bool = False,
    ) -> None:
        super().__init__()
        hidden = hidden_channels
        self.kind = activation
        self.scalars_only = scalars_only
        self.recompute = recompute
        self.linear_1 = SO3Linear(channels, hidden, lmax)
        self.linear_2 = SO3Linear(hidden, out_channels, lmax)
        grid = None
        if activation != "gate":
            grid = SphereGrid(sphere_grid_matrices(lmax, lmax, grid_resolution))
        self.scalar_linear: nn.Linear | None = None
        self.grid_mlp: nn.Sequential | None = None
        self.activation: EquivariantActivation | None = None
        if grid_mlp:
            self.grid = grid
            self.grid_mlp = nn.Sequential(
                nn.Linear(hidden, hidden, bias=False),
                nn.SiLU(),
                nn.Linear(hidden, hidden, bias=False),
                nn.SiLU(),
                nn.Linear(hidden, hidden, bias=False),
            )
            num_scalars = hidden if activation == "sep_s2" else 0
        else:
            rows = degree_of_row(lmax)
            self.activation = EquivariantActivation(activation, rows, grid, hidden)
            num_scalars = self.activation.num_scalars
        if num_scalars:
            self.scalar_linear = nn.Linear(channels, num_scalars)
            nn.init.zeros_(self.scalar_linear.bias)
        if scalars_only:
            self._freeze_unreachable()

    def forward(self, nodes: torch.Tensor) -> torch.Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self._transform, nodes, use_reentrant=False)
        return self._transform(nodes)

    def _transform(self, nodes: torch.Tensor) -> torch.Tensor:
        if self.scalars_only and self.kind != "s2":
            return self.linear_2.degree(self._hidden_scalars(nodes[:, :1]), 0)
        hidden = self.linear_1(nodes)  # [N, (lmax+1)^2, H]
        scalars = nodes[:, 0]  # [N, C]
        if self.scalar_linear is not None:
            scalars = apply_linear(self.scalar_linear, scalars)
        if self.grid_mlp is None:
            hidden = self.activation(hidden, scalars)
        else:
            hidden = self._on_grid(hidden, scalars)
        if self.scalars_only:
            return self.linear_2.degree(hidden[:, :1], 0)
        return self.linear_2(hidden)

    def _on_grid(self, hidden: torch.Tensor, scalars: torch.Tensor) -> torch.Tensor:
        # The first and the last linear layer have no bias, so they commute with the grid
        # transforms and act on the few coefficients instead of the many samples.
        first, _, middle, _, last = self.grid_mlp
        first_row = 1 if self.kind == "sep_s2" else 0
        mixed = apply_linear(first, hidden)  # [N, (lmax+1)^2, H]
        pieces = [
            self._sampled(piece, middle, first_row)
            for piece in mixed.split(self._nodes_at_a_time(mixed))
        ]
        out = apply_linear(last, pieces[0] if len(pieces) == 1 else torch.cat(pieces))
        if self.kind != "sep_s2":
            return out
        return torch.cat((nn.functional.silu(scalars).unsqueeze(1), out), dim=1)

    def _sampled(self, hidden: torch.Tensor, middle: nn.Linear, first_row: int) -> torch.Tensor:
        in_place = not torch.is_grad_enabled()
        samples = self.grid.to_grid(hidden)  # [N, G, H]
        samples = nn.functional.silu(samples, inplace=in_place)
        samples = nn.functional.silu(apply_linear(middle, samples), inplace=in_place)
        return self.grid.from_grid(samples, first_row)

    def _nodes_at_a_time(self, hidden: torch.Tensor) -> int:
        """Few enough that their samples stay in a core's cache, where nothing is kept of them."""
        if torch.is_grad_enabled() or is_traced() or hidden.device.type != "cpu":
            return max(hidden.shape[0], 1)
        samples = len(self.grid.to_grid_matrix) * hidden.shape[2]
        return max(1, _SAMPLES_AT_A_TIME // samples)

    def _hidden_scalars(self, scalars: torch.Tensor) -> torch.Tensor:
        """Degree 0 after the activation, [N, 1, hidden], where it needs no other degree."""
        if self.kind == "sep_s2":
            return nn.functional.silu(apply_linear(self.scalar_linear, scalars))
        return nn.functional.silu(self.linear_1.degree(scalars, 0))

    def _freeze_unreachable(self) -> None:
        unreachable: list[nn.Module | None] = []
        if self.kind == "sep_s2":
            unreachable = [self.linear_1, self.grid_mlp]
        elif self.kind == "gate":
            unreachable = [self.scalar_linear]
        for module in unreachable:
            if module is not None:
                module.requires_grad_(False)
