"""Losses normalised as in Algorithm 2, in fairchem's interface.

fairchem's own losses divide by the number of valid targets, so a task with few targets
would weigh as much as one with many. Here both force and noise loss divide by the same
count, of all atoms that could have had either target.
"""

from __future__ import annotations

from typing import Literal

import torch
from fairchem.core.common import distutils
from torch import nn


class DenoisingLoss(nn.Module):
    """Energy, force or noise loss of a batch in which some structures are corrupted.

    Args:
        coefficient: lambda_E, lambda_F or lambda_DeNS.
        normalization: "per_structure" (lines 24 to 27 of Algorithm 2): the sum over the
            atoms of a structure, divided by the number of all its atoms, averaged over the
            batch. "per_batch" (the published code): the sum over the batch divided by the
            number of all free atoms of the batch. Energies are averaged over the structures
            of the batch in both.

    Atom targets that are not finite do not count: NaN marks free atoms of the other task,
    infinity fixed atoms. All counts are summed over the data-parallel ranks.

    Attributes:
        coefficient: a scalar on the loss's device, to be changed in place: a captured or compiled
            step would keep the value of a Python number.
        predicted: what the last call was given, without gradient, for `DenoisingMonitor`.
    """

    coefficient: torch.Tensor
    predicted: torch.Tensor

    def __init__(
        self,
        coefficient: float,
        normalization: Literal["per_structure", "per_batch"] = "per_structure",
    ) -> None:
        super().__init__()
        if normalization not in ("per_structure", "per_batch"):
            raise ValueError(
                f"normalization must be 'per_structure' or 'per_batch', got {normalization!r}"
            )
        # float64, so that it is rounded once, to the dtype of the loss.
        number = torch.tensor(float(coefficient), dtype=torch.float64)
        self.register_buffer("coefficient", number, persistent=False)
        self.normalization = normalization

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
        """
        self.predicted = input.detach()
        target = target.view(input.shape)
        mask = mult_mask.view(input.shape[0])
        # where, not a product: the gradient of a norm at NaN would stay NaN.
        difference = torch.where(mask.unsqueeze(1), input - target, torch.zeros_like(input))
        count = torch.full((), len(natoms), device=input.device)
        if input.shape[1] == 1:
            total = difference.abs().sum()
        elif self.normalization == "per_structure":
            size = natoms.repeat_interleave(natoms, output_size=len(input)).to(input.dtype)
            total = (_safe_norm(difference) / size).sum()
        else:
            total = _safe_norm(difference).sum()
            count = (~torch.isinf(target).any(dim=1)).sum()  # free atoms
        everywhere = distutils.all_reduce(count).clamp(min=1)
        # Gradients are averaged over the ranks, hence the factor.
        weight = self.coefficient.to(total.dtype)
        return weight * total * distutils.get_world_size() / everywhere


def _safe_norm(vectors: torch.Tensor) -> torch.Tensor:
    """Euclidean norm with gradient zero at zero."""
    squared = vectors.square().sum(dim=1)
    positive = squared > 0
    return torch.where(positive, torch.where(positive, squared, 1.0).sqrt(), 0.0)
