"""Reading the folder of a reference case, whatever model it is of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from fairchem.core.datasets.atomic_data import AtomicData


class StoredCase:
    """Config, weights, inputs and outputs of the reference; weights as tensors."""

    def __init__(self, folder: Path) -> None:
        self.name = folder.name
        self.config = json.loads((folder / "config.json").read_text())
        self.inputs = dict(np.load(folder / "inputs.npz"))
        self.outputs = dict(np.load(folder / "outputs.npz"))
        stored = np.load(folder / "state.npz")
        self.state = {key: torch.from_numpy(value) for key, value in stored.items()}

    def batch(
        self, dtype: torch.dtype, pos: np.ndarray, cell: torch.Tensor, pbc: torch.Tensor
    ) -> AtomicData:
        """The structures at positions [atoms, 3], in cells [structures, 3, 3], without edges."""
        inputs = {key: torch.from_numpy(np.array(value)) for key, value in self.inputs.items()}
        num, none = len(inputs["natoms"]), torch.zeros(len(pos), dtype=torch.long)
        return AtomicData(
            pos=torch.from_numpy(pos).to(dtype),
            atomic_numbers=inputs["atomic_numbers"],
            cell=cell.to(dtype),
            pbc=pbc,
            natoms=inputs["natoms"],
            edge_index=torch.empty(2, 0, dtype=torch.long),
            cell_offsets=torch.empty(0, 3, dtype=dtype),
            nedges=torch.zeros(num, dtype=torch.long),
            charge=torch.zeros(num, dtype=torch.long),
            spin=torch.zeros(num, dtype=torch.long),
            fixed=inputs.get("fixed", none),
            tags=inputs.get("tags", none.clone()),
            batch=inputs["batch"],
            sid=[f"{self.name}-{i}" for i in range(num)],
        )
