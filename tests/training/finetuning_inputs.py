"""A tiny checkpoint to fine-tune from, written as fairchem writes its own."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import hydra
import torch
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint
from helpers import BACKBONE, DIRECT_HEADS, TINY, randomise

UNIT = "fairchem.core.units.mlip_unit.mlip_unit"
REFERENCES = {
    "_target_": "eqv2_plugin.data.references.written_out_references",
    "values": {"Cu": -3.5, "C": -7.0, "O": -6.5},
}


def task(name: str, level: str, dim: list[int], references: Any = None) -> dict[str, Any]:
    scale = {"mean": -0.5 if name == "energy" else 0.0, "rmsd": 2.0}
    return {
        "_target_": f"{UNIT}.Task",
        "name": name,
        "level": level,
        "property": name,
        "out_spec": {"_target_": f"{UNIT}.OutputSpec", "dim": dim, "dtype": "float32"},
        "normalizer": {"_target_": "eqv2_plugin.data.references.normalizer", **scale},
        "element_references": references,
        "datasets": ["oc20"],
    }


def write_start(
    path: Path, heads: dict | None = None, references: Any = None, **options: Any
) -> dict[str, torch.Tensor]:
    """Write the checkpoint; returns its EMA weights, from which its others differ."""
    heads = DIRECT_HEADS if heads is None else heads
    backbone = {"model": BACKBONE, **TINY, "num_layers": 1, **options}
    config = {
        "_target_": "eqv2_plugin.models.hydra.EquiformerV2",
        "backbone": backbone,
        "heads": deepcopy(heads),
        "supports_single_atoms": True,
    }
    torch.manual_seed(0)
    model = hydra.utils.instantiate(config)
    ema = {k: v.clone() for k, v in randomise(model, 1).state_dict().items()}
    other = {k: v.clone() for k, v in randomise(model, 2).state_dict().items()}
    labels = ["energy", "forces"]
    checkpoint = MLIPInferenceCheckpoint(
        model_config=config,
        model_state_dict=other,
        ema_state_dict={
            "n_averaged": torch.tensor(5),
            **{f"module.{k}": v for k, v in ema.items()},
        },
        tasks_config=[
            task(name, "system" if name == "energy" else "atom", [1] if name == "energy" else [3])
            | ({"element_references": references} if name == "energy" else {})
            for name in labels
        ],
    )
    torch.save(checkpoint, path)
    return ema
