"""Small inference checkpoints, and native files that were tampered with."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint
from helpers import BACKBONE, CONSERVATIVE, DIRECT_HEADS, TINY, TINY_V1, V1, randomise
from safetensors import safe_open
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from eqv2_plugin.models.hydra import EquiformerV2

UNIT = "fairchem.core.units.mlip_unit.mlip_unit"
NORMALIZATION = "fairchem.core.modules.normalization"
OPTIONS = {**TINY, "num_layers": 1}
GRADIENTS = {**OPTIONS, "direct_forces": False, "regress_stress": True}
GRADIENTS_V1 = {"model": V1, **TINY_V1, "direct_forces": False, "regress_stress": True}
KINDS = {
    "direct": (OPTIONS, DIRECT_HEADS),
    "conservative": (GRADIENTS, {"head": CONSERVATIVE}),
    "equiformer_v1": (GRADIENTS_V1, {"head": CONSERVATIVE}),
}
# Numbers that float32 cannot hold.
MEAN, SCALE = -0.7554450631141663, 2.887317180633545


def task(
    name: str, level: str, dim: list[int], mean: float = 0.0, prefix: str = ""
) -> dict[str, Any]:
    return {
        "_target_": f"{UNIT}.Task",
        "name": f"{prefix}{name}",
        "level": level,
        "property": name,
        "loss_fn": {"_target_": "fairchem.core.modules.loss.MAELoss"},
        "out_spec": {"_target_": f"{UNIT}.OutputSpec", "dim": dim, "dtype": "float32"},
        "normalizer": {
            "_target_": "eqv2_plugin.data.references.normalizer",
            "mean": mean,
            "rmsd": SCALE,
        },
        "element_references": None,
        "datasets": ["oc20"],
        "metrics": ["mae"],
    }


def written_references() -> dict[str, Any]:
    """float32 whatever the settings say, and NaN for most elements."""
    return {
        "_target_": "eqv2_plugin.data.references.written_out_references",
        "values": {"H": -3.1, "C": -7.3, "O": -5.9, "Cu": -2.123456789, "Na": 0.3, "K": 0.7}
        | {"Cl": 0.1},
    }


def number_references() -> dict[str, Any]:
    """In the precision that the settings say."""
    values = [0.01 * z + 1e-9 for z in range(100)]
    tensor = {"_target_": "torch.tensor", "_convert_": "all", "data": values}
    target = f"{NORMALIZATION}.element_references.ElementReferences"
    return {"_target_": target, "element_references": tensor}


def assemble(
    backbone: dict[str, Any], heads: dict[str, Any], tasks: list[dict[str, Any]]
) -> tuple[MLIPInferenceCheckpoint, EquiformerV2]:
    """A checkpoint with random weights, and the model whose EMA weights it holds."""
    # A copy: tests edit what they get.
    config = copy.deepcopy({"backbone": backbone, "heads": heads})
    config |= {"supports_single_atoms": True, "pass_through_head_outputs": "head" in heads}
    torch.manual_seed(0)
    averaged = randomise(EquiformerV2(**copy.deepcopy(config)), seed=3)
    latest = randomise(copy.deepcopy(averaged), seed=4)
    content = MLIPInferenceCheckpoint(
        model_config={"_target_": "eqv2_plugin.models.hydra.EquiformerV2", **config},
        model_state_dict=latest.state_dict(),
        ema_state_dict=AveragedModel(averaged).state_dict(),
        tasks_config=tasks,
    )
    return content, averaged.eval()


def checkpoint(kind: str, references: dict[str, Any] | None = None) -> MLIPInferenceCheckpoint:
    options, heads = KINDS[kind]
    tasks = [task("energy", "system", [1], MEAN), task("forces", "atom", [3])]
    if "head" in heads:
        tasks[0]["normalizer"]["mean"] = 0.0
        tasks.append(task("stress", "system", [1, 9]))
    tasks[0]["element_references"] = references
    return assemble({"model": BACKBONE, **options}, heads, tasks)[0]


def write_checkpoint(path: Path, kind: str, references: dict[str, Any] | None = None) -> Path:
    torch.save(checkpoint(kind, references), path)
    return path


def content_of(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and description of a native file."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["eqv2_plugin"])


def write_tampered(path: Path, tensors: dict[str, torch.Tensor], description: Any) -> Path:
    save_file(tensors, path, metadata={"eqv2_plugin": json.dumps(description)})
    return path


def put(path: str, value: Any) -> Callable[[Any], None]:
    """A change of a checkpoint or of a description: ``value`` (None: nothing) at a path such as
    ``model.heads.energy``."""

    def change(content: Any) -> None:
        if isinstance(content, MLIPInferenceCheckpoint):
            content = {"model": content.model_config, "tasks": content.tasks_config}
        *parents, last = (int(key) if key.isdigit() else key for key in path.split("."))
        for key in parents:
            content = content[key]
        if value is None:
            del content[last]
        else:
            content[last] = value

    return change
