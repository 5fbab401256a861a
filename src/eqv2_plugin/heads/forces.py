"""Direct force head: one attention block, degree 1 of its output (section 3.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from fairchem.core.common.registry import registry
from fairchem.core.models.base import HeadInterface
from torch import nn

from eqv2_plugin.heads.backbone_check import config_of
from eqv2_plugin.layers.attention import EquivariantGraphAttention

if TYPE_CHECKING:
    from fairchem.core.datasets.atomic_data import AtomicData

    from eqv2_plugin.backbones.equiformer_v2.backbone import EquiformerV2Backbone


class VectorHead(nn.Module, HeadInterface):
    """A vector per atom.

    Args:
        backbone: an `EquiformerV2Backbone`.
        output_name: key of the output.

    Returns from ``forward``: {output_name: [N, 3]} in the units of the normalised
    target; the components of degree 1 are (x, y, z).
    """

    def __init__(self, backbone: EquiformerV2Backbone, output_name: str) -> None:
        super().__init__()
        config = config_of(backbone, type(self).__name__)
        self.output_name = output_name
        self.vector_block = EquivariantGraphAttention(
            config, out_channels=1, alpha_drop=0.0, out_degree=1
        )

    def forward(self, data: AtomicData, emb: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {self.output_name: self.vectors(emb)}

    def vectors(self, emb: dict[str, Any]) -> torch.Tensor:
        """[N, 3] from the backbone's output."""
        vectors = self.vector_block(emb["node_embedding"], emb["edges"])
        return vectors.squeeze(2).to(self.vector_block.alpha_dot.dtype)


@registry.register_model("equiformer_v2_force_head")
@registry.register_model("equiformerV2_vector_head")
class ForceHead(VectorHead):
    """Direct forces, see `VectorHead`.

    Raises:
        ValueError: the backbone wants forces as gradients.
    """

    def __init__(self, backbone: EquiformerV2Backbone, output_name: str = "forces") -> None:
        super().__init__(backbone, output_name)
        if not backbone.config.direct_forces:
            raise ValueError(
                "the backbone has direct_forces=false, so forces come from the energy's gradient: "
                "use eqv2_plugin.heads.conservative.ConservativeHead instead of ForceHead"
            )


@registry.register_model("equiformer_v2_noise_head")
class NoiseHead(VectorHead):
    """The noise of corrupted atoms in units of its sigma (DeNS paper, section 3.2.3).

    Outside training there is no noise to predict: the output is zero, and costs nothing.
    """

    def __init__(self, backbone: EquiformerV2Backbone, output_name: str = "noise_forces") -> None:
        super().__init__(backbone, output_name)

    def forward(self, data: AtomicData, emb: dict[str, Any]) -> dict[str, torch.Tensor]:
        if self.training:
            return super().forward(data, emb)
        return {self.output_name: torch.zeros_like(data["pos"])}
