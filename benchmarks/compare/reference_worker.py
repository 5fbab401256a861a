# ruff: noqa: E402
"""EquiformerV2 of fairchem-core 1.10; runs in an environment of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from compare.serving import Implementation, serve
from compare.substitutes import install_substitutes

install_substitutes()

from fairchem.core.common.registry import registry
from fairchem.core.models.base import HydraModel  # noqa: F401
from fairchem.core.models.equiformer_v2 import equiformer_v2  # noqa: F401
from torch_geometric.data import Batch, Data


class Reference(Implementation):
    """As shipped."""

    def load(self, config: dict[str, Any], weights: Path) -> None:
        torch.manual_seed(0)
        options = {key: value for key, value in config.items() if key != "name"}
        self.model = registry.get_model_class("hydra")(**options)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                # Fresh models have zeros where mistakes would hide.
                if parameter.dim() <= 1 or "norm" in name:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        torch.save({k: v for k, v in self.model.named_parameters()}, weights)

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
        data = [
            Data(
                atomic_numbers=torch.tensor(numbers).float(),
                pos=torch.tensor(positions, dtype=torch.float32),
                cell=torch.tensor(cell, dtype=torch.float32).view(1, 3, 3),
                pbc=torch.ones(1, 3, dtype=torch.bool),
                natoms=len(numbers),
                tags=torch.ones(len(numbers), dtype=torch.long),
                fixed=torch.zeros(len(numbers), dtype=torch.long),
            )
            for numbers, positions, cell in parts
        ]
        self.batch = Batch.from_data_list(data).to(device)

    def forward(self) -> dict[str, torch.Tensor]:
        out = self.model(self.batch.clone())
        return {
            "energy": _tensor(out["energy"]).view(-1),
            "forces": _tensor(out["forces"]).view(-1, 3),
        }


def _tensor(value: Any) -> torch.Tensor:
    """Heads of fairchem-core 1 return {name: tensor} or the tensor."""
    return next(iter(value.values())) if isinstance(value, dict) else value


if __name__ == "__main__":
    serve(Reference())
