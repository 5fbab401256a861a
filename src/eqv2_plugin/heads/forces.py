"""Heads for vectors by a network of the backbone's: direct forces, and the noise of DeNS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from fairchem.core.common.registry import registry
from fairchem.core.models.base import HeadInterface
from torch import nn

from eqv2_plugin.backbones.protocol import Backbone, checked_backbone

if TYPE_CHECKING:
    from fairchem.core.datasets.atomic_data import AtomicData


class VectorHead(nn.Module, HeadInterface):
    """A vector per atom, on any `Backbone`.

    Returns from ``forward``: {output_name: [N, 3]} in the units of the normalised target.
    """

    def __init__(self, backbone: Backbone, output_name: str) -> None:
        super().__init__()
        checked_backbone(backbone, type(self).__name__)
        self.output_name = output_name
        self.vector_block = backbone.vector_network()

    def forward(self, data: AtomicData, emb: dict[str, Any]) -> dict[str, torch.Tensor]:
        vectors = self.vector_block(emb["node_embedding"], emb["edges"]).view(-1, 3)
        # Of 16 bits under autocast.
        return {self.output_name: vectors.to(torch.promote_types(vectors.dtype, torch.float32))}


@registry.register_model("equiformer_v2_force_head")
@registry.register_model("equiformerV2_vector_head")
class ForceHead(VectorHead):
    """Direct forces, see `VectorHead`.

    Raises:
        ValueError: the backbone wants forces as gradients.
    """

    def __init__(self, backbone: Backbone, output_name: str = "forces") -> None:
        super().__init__(backbone, output_name)
        if not backbone.regress_config.direct_forces:
            raise ValueError(
                "the backbone has direct_forces=false, so forces come from the energy's gradient: "
                "use eqv2_plugin.heads.conservative.ConservativeHead instead of ForceHead"
            )


@registry.register_model("equiformer_v2_noise_head")
class NoiseHead(VectorHead):
    """The noise of corrupted atoms in units of its sigma (DeNS paper, section 3.2.3).

    Outside training there is no noise to predict: the output is zero, and costs nothing.
    """

    def __init__(self, backbone: Backbone, output_name: str = "noise_forces") -> None:
        super().__init__(backbone, output_name)

    def forward(self, data: AtomicData, emb: dict[str, Any]) -> dict[str, torch.Tensor]:
        if self.training:
            return super().forward(data, emb)
        return {self.output_name: torch.zeros_like(data["pos"])}
