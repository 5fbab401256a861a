"""fairchem 2's eSCN-MD backbone with random weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from compare.serving import Implementation, serve
from compare.structure_arrays import fairchem_batch
from fairchem.core.models.base import HydraModelV2
from fairchem.core.models.uma.escn_md import (
    Linear_Force_Head,
    MLP_EFS_Head,
    MLP_Energy_Head,
    eSCNMDBackbone,
)


class ESCNMD(Implementation):
    """Configured by ``layers``, ``lmax``, ``mmax`` and ``conservative``."""

    def load(self, config: dict[str, Any], weights: Path) -> None:
        torch.manual_seed(0)
        conservative = config["conservative"]
        backbone = eSCNMDBackbone(
            num_layers=config["layers"],
            lmax=config["lmax"],
            mmax=config["mmax"],
            sphere_channels=128,
            hidden_channels=128,
            edge_channels=128,
            num_distance_basis=64,
            cutoff=6.0,
            max_neighbors=300,
            otf_graph=True,
            direct_forces=not conservative,
            use_dataset_embedding=False,
            ff_type=config["ff_type"],
        )
        if conservative:
            heads = {"efs": MLP_EFS_Head(backbone, wrap_property=False)}
        else:
            heads = {"energy": MLP_Energy_Head(backbone), "forces": Linear_Force_Head(backbone)}
        self.conservative = conservative
        self.model = HydraModelV2(backbone, heads)

    def set_structures(self, arrays: dict[str, np.ndarray], device: str) -> None:
        self.device = device
        self.model.to(device)
        self.batch = fairchem_batch(arrays).to(device)
        # Without embedding of charges and spins in the training set: neutral.
        self.batch["dataset"] = ["oc20"] * len(self.batch.natoms)

    def forward(self) -> dict[str, torch.Tensor]:
        out = self.model(self.batch.clone())
        parts = out["efs"] if self.conservative else {**out["energy"], **out["forces"]}
        return {"energy": parts["energy"].view(-1), "forces": parts["forces"].view(-1, 3)}


if __name__ == "__main__":
    serve(ESCNMD())
