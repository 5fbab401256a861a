"""The decomposed direct stress, joined to the 3x3 tensor that calculators want."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from e3nn import o3

from eqv2_plugin.backbones.protocol import Backbone
from eqv2_plugin.geometry.exact import exact_einsum
from eqv2_plugin.heads.stress import StressHead
from eqv2_plugin.layers.constants import ExactConstants

if TYPE_CHECKING:
    from fairchem.core.datasets.atomic_data import AtomicData


def symmetric_tensor_basis() -> np.ndarray:
    """Orthonormal symmetric 3x3 tensors, flattened: [6, 9], degree 0 and the five of degree 2.

    They are e3nn's coupling of two vectors, ordered and signed as the published targets.
    """
    # Also where a model is made on the meta device.
    with torch.device("cpu"):
        coupling = o3.wigner_3j(2, 1, 1, dtype=torch.float64).numpy() * math.sqrt(5)
    return np.concatenate((np.eye(3).reshape(1, 9) / math.sqrt(3), coupling.reshape(5, 9)))


class TensorBasis(ExactConstants):
    """Components [B, 6] to tensors [B, 9], which TF32 does not round."""

    def __init__(self) -> None:
        super().__init__()
        self.register_constant("tensors", symmetric_tensor_basis())

    def forward(self, components: torch.Tensor) -> torch.Tensor:
        tensors = self.tensors.to(components.dtype)
        return exact_einsum("bk,ki->bi", components, tensors)


class JoinedStressHead(StressHead):
    """`StressHead` in its decomposed form; each part is denormalised, then both are joined.

    The published models normalise the parts apart, which no normaliser of the joined tensor
    could undo.

    Args:
        isotropic, anisotropic: {"mean", "rmsd"} in eV/Å^3 of the two normalisers.
        **options: of `StressHead`.

    Returns from ``forward``: {output_name: [B, 9]} in eV/Å^3.
    """

    def __init__(
        self,
        backbone: Backbone,
        output_name: str = "stress",
        *,
        isotropic: Mapping[str, float],
        anisotropic: Mapping[str, float],
        **options: Any,
    ) -> None:
        super().__init__(backbone, output_name, decompose=True, **options)
        self.scales = {
            "isotropic": (float(isotropic["mean"]), float(isotropic["rmsd"])),
            "anisotropic": (float(anisotropic["mean"]), float(anisotropic["rmsd"])),
        }
        self.basis = TensorBasis()

    def forward(self, data: AtomicData, emb: dict[str, Any]) -> dict[str, torch.Tensor]:
        outputs = super().forward(data, emb)
        parts = [
            outputs[f"{self.output_name}_{part}"] * rmsd + mean
            for part, (mean, rmsd) in self.scales.items()
        ]
        components = torch.cat(parts, dim=1)
        return {self.output_name: self.basis(components)}
