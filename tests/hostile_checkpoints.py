"""Checkpoints of plain data and of pickles that make a careless reader run a command."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import native_checkpoints as inputs
import torch
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint
from native_checkpoints import put
from omegaconf import DictConfig, ListConfig, OmegaConf

SENTINEL = "PWNED"
RUN = "torch.utils.collect_env.run"
# Read with care, both are plain data.
CALL = {"_target_": RUN, "command": f"touch {SENTINEL}"}
TEXT = f"${{oc.create:{{_target_: {RUN}, command: touch {SENTINEL}}}}}"
Content = MLIPInferenceCheckpoint


def omegaconf_task(content: Content) -> None:
    content.tasks_config = ListConfig([DictConfig({**content.tasks_config[0], "loss_fn": CALL})])


def interpolated_key(content: Content) -> None:
    """A text that refers to a key elsewhere in the same config."""
    content.tasks_config = OmegaConf.create(
        [{**content.tasks_config[0], "spare": CALL, "normalizer": "${.spare}"}]
    )


def interpolated_node(content: Content) -> None:
    """The whole of a container is an interpolation."""
    task = DictConfig({**content.tasks_config[0]})
    task._set_value(TEXT)
    content.tasks_config = ListConfig([])
    content.tasks_config._content.append(task)


def task_text(content: Content) -> None:
    content.tasks_config = TEXT


def model_text(content: Content) -> None:
    content.model_config = TEXT


REFERENCES = "fairchem.core.modules.normalization.element_references.ElementReferences"
PLAIN_KINDS: dict[str, Callable[[Content], None]] = {
    "loss": put("tasks.0.loss_fn", CALL),
    "loss as text": put("tasks.0.loss_fn", TEXT),
    "loss within a loss": put(
        "tasks.0.loss_fn", {"_target_": "fairchem.core.modules.loss.DDPMTLoss", "loss_fn": CALL}
    ),
    "metrics": put("tasks.0.metrics", CALL),
    "metrics in a list": put("tasks.0.metrics", [CALL]),
    "metrics as text": put("tasks.0.metrics", [TEXT]),
    "key of out_spec": put("tasks.0.out_spec.extra", CALL),
    "out_spec": put("tasks.0.out_spec", CALL),
    "dim": put("tasks.0.out_spec.dim", [CALL]),
    "dtype as text": put("tasks.0.out_spec.dtype", TEXT),
    "normaliser": put("tasks.0.normalizer", CALL),
    "normaliser as text": put("tasks.0.normalizer", TEXT),
    "mean": put("tasks.0.normalizer.mean", CALL),
    "rmsd as text": put("tasks.0.normalizer.rmsd", TEXT),
    "mean beyond all floats": put("tasks.0.normalizer.mean", 10**400),
    "references": put("tasks.0.element_references", CALL),
    "references as text": put("tasks.0.element_references", TEXT),
    "values of references": put(
        "tasks.0.element_references", {"_target_": REFERENCES, "element_references": CALL}
    ),
    "name": put("tasks.0.name", CALL),
    "level": put("tasks.0.level", CALL),
    "level as text": put("tasks.0.level", TEXT),
    "property": put("tasks.0.property", TEXT),
    "datasets": put("tasks.0.datasets", CALL),
    "nested lists": put("tasks.0.datasets", [["oc20", [CALL]]]),
    "flag": put("tasks.0.train_on_free_atoms", CALL),
    "unknown key of a task": put("tasks.0.spare", CALL),
    "whole task": put("tasks.1", dict(CALL)),
    "class of the task": put("tasks.0._target_", RUN),
    "partial": put("tasks.0._partial_", True),
    "arguments": put("tasks.0._args_", [CALL]),
    "recursion": put("tasks.0._recursive_", False),
    "task of OmegaConf": omegaconf_task,
    "key elsewhere": interpolated_key,
    "node of OmegaConf": interpolated_node,
    "all tasks as text": task_text,
    "class of the model": put("model._target_", RUN),
    "unknown key of the model": put("model.spare", CALL),
    "facts": put("model.facts", CALL),
    "fact": put("model.facts", {"energy_reference": CALL}),
    "fact as text": put("model.facts", {"energy_reference": TEXT}),
    "units": put("model.facts", {"units": {"energy": TEXT}}),
    "finetune_config": put("model.finetune_config", CALL),
    "other checkpoint": put("model.finetune_config", {"starting_checkpoint": "other.pt"}),
    "supports_single_atoms": put("model.supports_single_atoms", CALL),
    "model_id": put("model.model_id", CALL),
    "model_id as text": put("model.model_id", TEXT),
    "model as text": model_text,
    "key of the backbone": put("model.backbone.spare", CALL),
    "option of the backbone": put("model.backbone.edge_chunk_size", CALL),
    "class of the backbone": put("model.backbone.model", RUN),
    "option of a head": put("model.heads.energy.output_name", CALL),
    "key of a head": put("model.heads.energy.spare", CALL),
    "class of a head": put("model.heads.energy.module", RUN),
    "heads": put("model.heads", dict(CALL)),
}


class Bomb:
    """Unpickled without care, it runs a command."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {SENTINEL}",)


def pickle_among_weights(content: Content) -> None:
    content.ema_state_dict["module.bomb"] = Bomb()


def widened(content: Content) -> None:
    """A gigabyte that takes four bytes in the file."""
    name = "module.backbone.atom_embedding.weight"
    content.ema_state_dict[name] = torch.zeros(1).expand(16_000, 16_000)


def doubled(content: Content) -> None:
    """Thirty lists, each of which holds the one before it twice."""
    inner: list[Any] = ["oc20"]
    for _ in range(30):
        inner = [inner, inner]
    content.tasks_config[0]["datasets"] = inner


PICKLE_KINDS: dict[str, Callable[[Content], None]] = {
    "pickle in the config": put("tasks.0", Bomb()),
    "pickle among the weights": pickle_among_weights,
}
BOMBS: dict[str, Callable[[Content], None]] = {
    "widened weight": widened,
    "widened references": put(
        "tasks.0.element_references",
        {"_target_": REFERENCES, "element_references": torch.zeros(1).expand(300_000_000)},
    ),
    "doubled lists": doubled,
    "many layers": put("model.backbone.num_layers", 10**9),
    "wide layers": put("model.backbone.sphere_channels", 10**9),
    "high degrees": put("model.backbone.lmax", 10**5),
    "fine grid": put("model.backbone.grid_resolution", 10**6),
    "long list": put("tasks.0.datasets", ["oc20"] * 1_000_000),
}


def write_hostile(path: Path, change: Callable[[Content], None]) -> Path:
    """The small direct checkpoint of `native_checkpoints` after ``change``."""
    content = inputs.checkpoint("direct")
    change(content)
    torch.save(content, path)
    return path
