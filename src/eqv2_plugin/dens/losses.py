"""Losses of a batch of which some atoms are corrupted, in fairchem's interface.

How the tasks weigh against each other depends on what their sums are divided by: fairchem's own
losses divide by the number of valid targets, Algorithm 2 divides forces and noise by one count, of
all atoms that could have had either target.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from fairchem.core.common import distutils
from torch import nn

Normalization = Literal["per_structure", "per_batch", "per_task"]


class DenoisingLoss(nn.Module):
    """Energy, force or noise loss of a batch in which some structures are corrupted.

    Args:
        coefficient: lambda_E, lambda_F or lambda_DeNS.
        normalization: "per_structure" (lines 24 to 27 of Algorithm 2): the sum over the
            atoms of a structure, divided by the number of all its atoms, averaged over the
            batch. "per_batch" (the published code for OC20): the sum over the batch divided by the
            number of all free atoms of the batch. "per_task" (the published code for MD17): the
            sum over the batch divided by the number of atoms that have this target, zero if there
            is none. Energies are averaged over the structures of the batch in all of them.
        level: "system" for energies, "atom" for forces and noise; the training unit sets that of
            the task.

    Atom targets that are not finite do not count: NaN marks free atoms of the other task,
    infinity fixed atoms. All counts are summed over the data-parallel ranks.

    Attributes:
        coefficient: a scalar on the loss's device, to be changed in place: a captured or compiled
            step would keep the value of a Python number.
        predicted: what the last call was given, without gradient, for `DenoisingMonitor`.

    Raises:
        ValueError: another normalisation.
    """

    coefficient: torch.Tensor
    predicted: torch.Tensor

    def __init__(
        self,
        coefficient: float,
        normalization: Normalization = "per_structure",
        level: Literal["system", "atom"] | None = None,
    ) -> None:
        super().__init__()
        known = get_args(Normalization)
        if normalization not in known:
            raise ValueError(f"normalization must be one of {list(known)}, got {normalization!r}")
        # float64, so that it is rounded once, to the dtype of the loss.
        number = torch.tensor(float(coefficient), dtype=torch.float64)
        self.register_buffer("coefficient", number, persistent=False)
        self.normalization = normalization
        self.level = level

    def forward(
        self,
        input: torch.Tensor,
        target: torch.Tensor,
        mult_mask: torch.Tensor,
        natoms: torch.Tensor,
    ) -> torch.Tensor:
        """The weighted loss.

        Args:
            input: predictions, [B, 1] or [N, 3], in normalised units.
            target: labels of as many elements.
            mult_mask: [B] or [N], where the target counts.
            natoms: [B] atoms per structure.

        Raises:
            ValueError: nobody has set the level.
        """
        if self.level is None:
            raise ValueError(
                "DenoisingLoss needs level='system' or 'atom', which the unit of DeNS sets: train "
                "with eqv2_plugin.dens.unit.EquiformerV2DeNSUnit"
            )
        self.predicted = input.detach()
        target = target.view(input.shape)
        mask = mult_mask.view(input.shape[0])
        # where, not a product: the gradient of a norm at NaN would stay NaN.
        difference = torch.where(mask.unsqueeze(1), input - target, torch.zeros_like(input))
        count = torch.full((), len(natoms), device=input.device)
        if self.level == "system":
            total = difference.abs().sum()
        elif self.normalization == "per_structure":
            size = natoms.repeat_interleave(natoms, output_size=len(input)).to(input.dtype)
            total = (_safe_norm(difference) / size).sum()
        else:
            total = _safe_norm(difference).sum()
            own = self.normalization == "per_task"
            count = (mask if own else ~torch.isinf(target).any(dim=1)).sum()  # or free atoms
        everywhere = distutils.all_reduce(count).clamp(min=1)
        # Gradients are averaged over the ranks, hence the factor.
        weight = self.coefficient.to(total.dtype)
        return weight * total * distutils.get_world_size() / everywhere


def _safe_norm(vectors: torch.Tensor) -> torch.Tensor:
    """Euclidean norm with gradient zero at zero."""
    squared = vectors.square().sum(dim=1)
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0)
