"""Energy head: the backbone's network to one scalar per atom, summed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from fairchem.core.common.registry import registry
from fairchem.core.models.base import HeadInterface
from torch import nn

from eqv2_plugin.backbones.protocol import Backbone, checked_backbone
from eqv2_plugin.kernels.segments import segment_offsets, sum_over_neighbours

if TYPE_CHECKING:
    from fairchem.core.datasets.atomic_data import AtomicData


# torch's CPU code generator fails on a float64 index_add fused into a float32 kernel.
@torch.compiler.disable
def sum_over_atoms(values: torch.Tensor, batch: torch.Tensor, num_structures: int) -> torch.Tensor:
    """`sum_in_float64`, and back to float32 at least."""
    total = sum_in_float64(values, batch, num_structures)
    return total.to(torch.promote_types(values.dtype, torch.float32))


@torch.compiler.disable
def sum_in_float64(values: torch.Tensor, batch: torch.Tensor, num_structures: int) -> torch.Tensor:
    """Sum [N, ...] per structure, [B, ...]; ``batch`` ascends, as fairchem's does."""
    return sum_over_neighbours(values.double(), batch, segment_offsets(batch, num_structures))


@registry.register_model("equiformer_v2_energy_head")
@registry.register_model("equiformerV2_scalar_head")
class EnergyHead(nn.Module, HeadInterface):
    """An extensive (or mean) scalar per structure, on any `Backbone`.

    Args:
        output_name: key of the output.
        reduce: "sum" divides the sum over atoms by the backbone's ``energy_divisor``; "mean" by the
            number of atoms.

    Returns from ``forward``: {output_name: [B]} in the units of the normalised target.
    """

    def __init__(
        self,
        backbone: Backbone,
        output_name: str = "energy",
        reduce: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__()
        checked_backbone(backbone, "EnergyHead")
        if reduce not in ("sum", "mean"):
            raise ValueError(f"reduce must be 'sum' or 'mean', got {reduce!r}")
        self.output_name = output_name
        self.reduce = reduce
        self.divisor = backbone.energy_divisor
        self.energy_block = backbone.scalar_network()

    def forward(self, data: AtomicData, emb: dict[str, Any]) -> dict[str, torch.Tensor]:
        per_atom = self.energy_block(emb["node_embedding"]).flatten()
        num_structures = len(data["natoms"])
        energy = sum_over_atoms(per_atom, data["batch"], num_structures)
        energy = energy / (self.divisor if self.reduce == "sum" else data["natoms"])
        return {self.output_name: energy}
