"""Energy with forces, and stress if wanted, as its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from fairchem.core.common.registry import registry
from fairchem.core.models.base import HeadInterface
from fairchem.core.models.uma.outputs import compute_forces, compute_forces_and_stress
from torch import nn

from eqv2_plugin.heads.backbone_check import config_of
from eqv2_plugin.heads.energy import EnergyHead

if TYPE_CHECKING:
    from fairchem.core.datasets.atomic_data import AtomicData

    from eqv2_plugin.backbone import EquiformerV2Backbone


@registry.register_model("equiformer_v2_conservative_head")
class ConservativeHead(nn.Module, HeadInterface):
    """Forces ``-dE/dr`` and stress ``dE/dstrain / V``.

    The gradients share the energy's normaliser scale: give all tasks the same ``rmsd``
    and forces and stress a ``mean`` of zero.

    Args:
        backbone: an `EquiformerV2Backbone` with ``direct_forces=false``.

    Returns from ``forward``: {"energy": {"energy": [B]}, "forces": {"forces": [N, 3]},
    "stress": {"stress": [B, 9]}}, which `EquiformerV2` hands on as outputs of their own.
    """

    def __init__(self, backbone: EquiformerV2Backbone) -> None:
        super().__init__()
        config = config_of(backbone, "ConservativeHead")
        if not config.conservative:
            raise ValueError(
                "ConservativeHead differentiates the energy: set direct_forces=false and "
                "regress_forces=true (or regress_stress=true) on the backbone"
            )
        self.regress_config = backbone.regress_config
        self.energy = EnergyHead(backbone)

    @property
    def output_names(self) -> frozenset[str]:
        """Names of the outputs of `forward`."""
        return frozenset(("energy", "forces", *(["stress"] if self.regress_config.stress else [])))

    def forward(self, data: AtomicData, emb: dict[str, Any]) -> dict[str, dict[str, torch.Tensor]]:
        with torch.enable_grad():
            energy = self.energy(data, emb)["energy"]
            outputs = {"energy": {"energy": energy}}
            if self.regress_config.stress:
                forces, stress = compute_forces_and_stress(
                    energy, data["pos"], data["cell"], data["batch"], training=self.training
                )
                outputs["stress"] = {"stress": stress.to(energy.dtype)}
            else:
                forces = compute_forces(energy, data["pos"], training=self.training)
            outputs["forces"] = {"forces": forces}
        return outputs
