"""Energy with forces, and stress and Hessian if wanted, as its derivatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from fairchem.core.common.registry import registry
from fairchem.core.models.base import HeadInterface
from fairchem.core.models.uma.outputs import (
    compute_forces,
    compute_forces_and_stress,
    compute_hessian,
)
from torch import nn

from eqv2_plugin.backbones.protocol import Backbone, checked_backbone
from eqv2_plugin.heads.energy import EnergyHead
from eqv2_plugin.heads.stress import where_volume

if TYPE_CHECKING:
    from fairchem.core.datasets.atomic_data import AtomicData


@registry.register_model("equiformer_v2_conservative_head")
class ConservativeHead(nn.Module, HeadInterface):
    """Forces ``-dE/dr``, stress ``dE/dstrain / V``, and the Hessian ``d^2E/dr^2`` on request.

    Stress is NaN where a direction is not periodic (see `where_volume`). The Hessian is computed
    where fairchem asks for it (``predict_untrained_hessian``), for one structure at a time.

    The gradients share the energy's normaliser scale: give all tasks the same ``rmsd``
    and forces and stress a ``mean`` of zero.

    Args:
        backbone: any `Backbone` with ``direct_forces=false``.

    Returns from ``forward``: {"energy": {"energy": [B]}, "forces": {"forces": [N, 3]},
    "stress": {"stress": [B, 9]}, "hessian": {"hessian": [1, 3N, 3N]}}, which `EquiformerV2` hands
    on as outputs of their own.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        if not checked_backbone(backbone, "ConservativeHead").is_conservative:
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
        """Outputs by task.

        Raises:
            ValueError: a Hessian is wanted of a batch of several structures.
        """
        hessian = self.regress_config.hessian
        if hessian and len(data["natoms"]) != 1:
            raise ValueError(
                f"a Hessian is computed for one structure at a time, but the batch has "
                f"{len(data['natoms'])}: predict them one by one, or leave out "
                "predict_untrained_hessian"
            )
        with torch.enable_grad():
            energy = self.energy(data, emb)["energy"]
            outputs = {"energy": {"energy": energy}}
            further = self.training or hessian
            if self.regress_config.stress:
                forces, stress = compute_forces_and_stress(
                    energy, data["pos"], data["cell"], data["batch"], training=further
                )
                stress = where_volume(stress, data["pbc"], training=self.training)
                outputs["stress"] = {"stress": stress.to(energy.dtype)}
            else:
                forces = compute_forces(energy, data["pos"], training=further)
            outputs["forces"] = {"forces": forces}
            if hessian:
                # One row at a time: not every operator of the backbone can be vectorised.
                values = compute_hessian(forces, data["pos"], vmap=False, training=self.training)
                outputs["hessian"] = {"hessian": values}
        return outputs
