# ruff: noqa: E402
"""MACE with random weights and the sizes of its medium model; an environment of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

# e3nn 0.4 reads its constants from a file with slices in it, which torch refuses by default.
torch.serialization.add_safe_globals([slice])

from ase import Atoms
from e3nn import o3
from mace import data, modules, tools
from mace.tools import torch_geometric

sys.path.insert(0, str(Path(__file__).parents[1]))

from compare.serving import Implementation, serve


class Mace(Implementation):
    """128x0e + 128x1o, two interactions, correlation 3, cutoff 6 Å."""

    def load(self, config: dict[str, Any], weights: Path) -> None:
        torch.manual_seed(0)
        self.elements = tools.AtomicNumberTable(config["elements"])
        block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
        self.model = modules.ScaleShiftMACE(
            r_max=6.0,
            num_bessel=10,
            num_polynomial_cutoff=5,
            max_ell=3,
            interaction_cls=block,
            interaction_cls_first=block,
            num_interactions=2,
            num_elements=len(self.elements),
            hidden_irreps=o3.Irreps("128x0e + 128x1o"),
            MLP_irreps=o3.Irreps("16x0e"),
            gate=torch.nn.functional.silu,
            atomic_energies=np.zeros(len(self.elements)),
            avg_num_neighbors=40.0,
            atomic_numbers=self.elements.zs,
            correlation=3,
            radial_type="bessel",
            atomic_inter_scale=1.0,
            atomic_inter_shift=0.0,
        )

    def set_structures(self, arrays: dict[str, np.ndarray], device: str) -> None:
        self.device = device
        self.model.to(device)
        ends = np.cumsum(arrays["natoms"])[:-1]
        parts = zip(
            np.split(arrays["numbers"], ends),
            np.split(arrays["positions"], ends),
            arrays["cells"],
            strict=True,
        )
        self.atoms = [Atoms(n, p, cell=c, pbc=True) for n, p, c in parts]

    def forward(self) -> dict[str, torch.Tensor]:
        # The others search neighbours in each call, too.
        configurations = [data.config_from_atoms(atoms) for atoms in self.atoms]
        frames = [
            data.AtomicData.from_config(c, z_table=self.elements, cutoff=6.0)
            for c in configurations
        ]
        batch = next(
            iter(torch_geometric.dataloader.DataLoader(frames, batch_size=len(frames)))
        ).to(self.device)
        with torch.enable_grad():
            out = self.model(batch.to_dict(), training=self.model.training)
        return {"energy": out["energy"], "forces": out["forces"]}


if __name__ == "__main__":
    serve(Mace())
