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

    from eqv2_plugin.backbone import EquiformerV2Backbone


@registry.register_model("equiformer_v2_force_head")
@registry.register_model("equiformerV2_vector_head")
class ForceHead(nn.Module, HeadInterface):
    """A vector per atom.

    Args:
        backbone: an `EquiformerV2Backbone`.
        output_name: key of the output.

    Returns from ``forward``: {output_name: [N, 3]} in the units of the normalised
    target; the components of degree 1 are (x, y, z).
    """

    def __init__(self, backbone: EquiformerV2Backbone, output_name: str = "forces") -> None:
        super().__init__()
        config = config_of(backbone, "ForceHead")
        if not config.direct_forces:
            raise ValueError(
                "the backbone has direct_forces=false, so forces come from the energy's gradient: "
                "use eqv2_plugin.heads.conservative.ConservativeHead instead of ForceHead"
            )
        self.output_name = output_name
        self.force_block = EquivariantGraphAttention(
            config, out_channels=1, alpha_drop=0.0, out_degree=1
        )

    def forward(self, data: AtomicData, emb: dict[str, Any]) -> dict[str, torch.Tensor]:
        vectors = self.force_block(emb["node_embedding"], emb["edges"], emb["shared_pairs"])
        return {self.output_name: vectors.squeeze(2).to(self.force_block.alpha_dot.dtype)}
