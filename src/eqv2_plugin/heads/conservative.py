"""Energy with forces, and stress and Hessian if wanted, as its derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from fairchem.core.common.registry import registry
from fairchem.core.models.base import HeadInterface
from fairchem.core.models.uma.outputs import compute_forces, compute_hessian
from torch import nn

from eqv2_plugin.backbones.protocol import Backbone, checked_backbone
from eqv2_plugin.geometry.exact import exact_einsum
from eqv2_plugin.heads.energy import EnergyHead, sum_in_float64
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
        dataset: name of the one data set that the head serves, of several that are trained
            together: its outputs are then called "NAME_energy", "NAME_forces", ..., as fairchem
            names tasks of several data sets. A model differentiates all such heads in one go,
            see `of_data_sets`.

    Returns from ``forward``: {"energy": {"energy": [B]}, "forces": {"forces": [N, 3]},
    "stress": {"stress": [B, 9]}, "hessian": {"hessian": [1, 3N, 3N]}}, which `EquiformerV2` hands
    on as outputs of their own.
    """

    def __init__(self, backbone: Backbone, dataset: str | None = None) -> None:
        super().__init__()
        if not checked_backbone(backbone, "ConservativeHead").is_conservative:
            raise ValueError(
                "ConservativeHead differentiates the energy: set direct_forces=false and "
                "regress_forces=true (or regress_stress=true) on the backbone"
            )
        self.regress_config = backbone.regress_config
        self.dataset = dataset
        self.energy = EnergyHead(backbone)

    def output_name(self, label: str) -> str:
        """What the output of a property ("energy", "forces", ...) is called."""
        return label if self.dataset is None else f"{self.dataset}_{label}"

    @property
    def output_names(self) -> frozenset[str]:
        """Names of the outputs of `forward`."""
        return frozenset((self.output_name("energy"), *self.gradient_names))

    @property
    def gradient_names(self) -> frozenset[str]:
        """Those of them that are gradients of the energy."""
        labels = ("forces", "stress") if self.regress_config.stress else ("forces",)
        return frozenset(map(self.output_name, labels))

    def forward(self, data: AtomicData, emb: dict[str, Any]) -> dict[str, dict[str, torch.Tensor]]:
        """Outputs by task, of all structures.

        Raises:
            ValueError: a Hessian is wanted of a batch of several structures.
        """
        with torch.enable_grad():
            found = self._derived(self.energy(data, emb)["energy"], data)
        return {self.output_name(label): {label: value} for label, value in found.items()}

    def _derived(self, energy: torch.Tensor, data: AtomicData) -> dict[str, torch.Tensor]:
        """The energy [B] and its derivatives, by property."""
        hessian = self.regress_config.hessian
        if hessian and len(data["natoms"]) != 1:
            raise ValueError(
                f"a Hessian is computed for one structure at a time, but the batch has "
                f"{len(data['natoms'])}: predict them one by one, or leave out "
                "predict_untrained_hessian"
            )
        found = {"energy": energy}
        further = self.training or hessian
        if self.regress_config.stress:
            forces, stress = forces_and_stress(energy, data, further)
            stress = where_volume(stress, data["pbc"], training=self.training)
            found["stress"] = stress.to(energy.dtype)
        else:
            forces = compute_forces(energy, data["pos"], training=further)
        found["forces"] = forces
        if hessian:
            # One row at a time: not every operator of the backbone can be vectorised.
            found["hessian"] = compute_hessian(
                forces, data["pos"], vmap=False, training=self.training
            )
        return found


def forces_and_stress(
    energy: torch.Tensor, data: AtomicData, further: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """As fairchem's `compute_forces_and_stress`, but also on a GPU always the same bits.

    Nor does TF32 round the product of cell and gradient.

    Args:
        energy: [B] eV.
        data: the batch, by whose ``pos`` and ``cell`` the energy is differentiated.
        further: whether derivatives of the result are wanted.

    Returns:
        [N, 3] eV/Å and [B, 9] eV/Å^3, of float64.
    """
    pos, cell, batch = data["pos"], data["cell"], data["batch"]
    by_pos, by_cell = torch.autograd.grad([energy.sum()], [pos, cell], create_graph=further)
    of_pos = sum_in_float64(by_pos.unsqueeze(2) * pos.unsqueeze(1), batch, len(cell))  # [B, 3, 3]
    of_cell = exact_einsum("bji,bjk->bik", cell, by_cell)
    virial = (of_pos + of_pos.mT + of_cell + of_cell.mT) / 2
    first, second, third = cell.unbind(1)
    # No factorisation, which takes many launches and may not be recorded.
    volume = (torch.linalg.cross(first, second) * third).sum(1).abs().view(-1, 1, 1)
    # `where_volume` masks the stress of a slab without third vector, but not 0/0 in its derivative.
    volume = torch.where(volume > 0, volume, 1.0)
    return torch.neg(by_pos), (virial / volume).flatten(1)


def of_data_sets(
    heads: Sequence[ConservativeHead],
    data: AtomicData,
    emb: dict[str, Any],
    head_of_structure: torch.Tensor,
) -> dict[str, dict[str, torch.Tensor]]:
    """Outputs of heads of different data sets, whose energies are differentiated together.

    The energy of a structure is that of its own data set's head, so that one backward pass gives
    the forces of all, however many heads there are.

    Args:
        heads: all on the same backbone.
        head_of_structure: [B] index of the head that each structure belongs to; any other number
            for one that belongs to none.

    Returns:
        Outputs by task, zero for structures of other data sets.
    """
    with torch.enable_grad():
        own = [head_of_structure == index for index in range(len(heads))]  # each [B]
        energies = [head.energy(data, emb)["energy"] for head in heads]  # each [B]
        masked = [torch.where(o, e, 0.0) for o, e in zip(own, energies, strict=True)]
        found = heads[0]._derived(torch.stack(masked).sum(0), data)
        outputs = {}
        for head, structures in zip(heads, own, strict=True):
            for label, value in found.items():
                rows = structures[data["batch"]] if label == "forces" else structures
                rows = rows.view(-1, *[1] * (value.dim() - 1))
                outputs[head.output_name(label)] = {label: torch.where(rows, value, 0.0)}
    return outputs
