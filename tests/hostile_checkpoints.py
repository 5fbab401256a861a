"""Checkpoints of plain data and of pickles that make a careless reader run a command."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import native_checkpoints as inputs
import torch
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint
from omegaconf import DictConfig, ListConfig, OmegaConf

SENTINEL = "PWNED"
RUN = "torch.utils.collect_env.run"
# Read with care, both are plain data.
CALL = {"_target_": RUN, "command": f"touch {SENTINEL}"}
TEXT = f"${{oc.create:{{_target_: {RUN}, command: touch {SENTINEL}}}}}"
Content = MLIPInferenceCheckpoint


def in_task(key: str, value: Any) -> Callable[[Content], None]:
    """Sets a key of the first task."""
    return lambda content: content.tasks_config[0].__setitem__(key, value)


def in_part(part: str, key: str, value: Any) -> Callable[[Content], None]:
    """Sets a key of a mapping within the first task."""
    return lambda content: content.tasks_config[0][part].__setitem__(key, value)


def in_model(key: str, value: Any) -> Callable[[Content], None]:
    """Sets a key of the model's configuration."""
    return lambda content: content.model_config.__setitem__(key, value)


def in_backbone(key: str, value: Any) -> Callable[[Content], None]:
    return lambda content: content.model_config["backbone"].__setitem__(key, value)


def in_head(key: str, value: Any) -> Callable[[Content], None]:
    return lambda content: content.model_config["heads"]["energy"].__setitem__(key, value)


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


def nested_lists(content: Content) -> None:
    content.tasks_config[0]["datasets"] = [["oc20", [CALL]]]


def whole_task(content: Content) -> None:
    content.tasks_config.append(dict(CALL))


def nested_loss(content: Content) -> None:
    loss = {"_target_": "fairchem.core.modules.loss.DDPMTLoss", "loss_fn": CALL}
    content.tasks_config[0]["loss_fn"] = loss


def head_names(content: Content) -> None:
    content.model_config["heads"] = dict(CALL)


def task_text(content: Content) -> None:
    content.tasks_config = TEXT


def model_text(content: Content) -> None:
    content.model_config = TEXT


REFERENCES = "fairchem.core.modules.normalization.element_references.ElementReferences"
PLAIN_KINDS: dict[str, Callable[[Content], None]] = {
    "loss": in_task("loss_fn", CALL),
    "loss as text": in_task("loss_fn", TEXT),
    "loss within a loss": nested_loss,
    "metrics": in_task("metrics", CALL),
    "metrics in a list": in_task("metrics", [CALL]),
    "metrics as text": in_task("metrics", [TEXT]),
    "key of out_spec": in_part("out_spec", "extra", CALL),
    "out_spec": in_task("out_spec", CALL),
    "dim": in_part("out_spec", "dim", [CALL]),
    "dtype as text": in_part("out_spec", "dtype", TEXT),
    "normaliser": in_task("normalizer", CALL),
    "normaliser as text": in_task("normalizer", TEXT),
    "mean": in_part("normalizer", "mean", CALL),
    "rmsd as text": in_part("normalizer", "rmsd", TEXT),
    "references": in_task("element_references", CALL),
    "references as text": in_task("element_references", TEXT),
    "values of references": in_task(
        "element_references", {"_target_": REFERENCES, "element_references": CALL}
    ),
    "name": in_task("name", CALL),
    "level": in_task("level", CALL),
    "level as text": in_task("level", TEXT),
    "property": in_task("property", TEXT),
    "datasets": in_task("datasets", CALL),
    "nested lists": nested_lists,
    "flag": in_task("train_on_free_atoms", CALL),
    "unknown key of a task": in_task("spare", CALL),
    "whole task": whole_task,
    "class of the task": in_task("_target_", RUN),
    "partial": in_task("_partial_", True),
    "arguments": in_task("_args_", [CALL]),
    "recursion": in_task("_recursive_", False),
    "task of OmegaConf": omegaconf_task,
    "key elsewhere": interpolated_key,
    "node of OmegaConf": interpolated_node,
    "all tasks as text": task_text,
    "class of the model": in_model("_target_", RUN),
    "unknown key of the model": in_model("spare", CALL),
    "facts": in_model("facts", CALL),
    "fact": in_model("facts", {"energy_reference": CALL}),
    "fact as text": in_model("facts", {"energy_reference": TEXT}),
    "units": in_model("facts", {"units": {"energy": TEXT}}),
    "finetune_config": in_model("finetune_config", CALL),
    "other checkpoint": in_model("finetune_config", {"starting_checkpoint": "other.pt"}),
    "supports_single_atoms": in_model("supports_single_atoms", CALL),
    "model_id": in_model("model_id", CALL),
    "model_id as text": in_model("model_id", TEXT),
    "model as text": model_text,
    "key of the backbone": in_backbone("spare", CALL),
    "option of the backbone": in_backbone("edge_chunk_size", CALL),
    "class of the backbone": in_backbone("model", RUN),
    "option of a head": in_head("output_name", CALL),
    "key of a head": in_head("spare", CALL),
    "class of a head": in_head("module", RUN),
    "heads": head_names,
}


class Bomb:
    """Unpickled without care, it runs a command."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {SENTINEL}",)


def pickle_in_config(content: Content) -> None:
    content.tasks_config = [Bomb()]


def pickle_among_weights(content: Content) -> None:
    content.ema_state_dict["module.bomb"] = Bomb()


def widened(content: Content) -> None:
    """A gigabyte that takes four bytes in the file."""
    name = "module.backbone.atom_embedding.weight"
    content.ema_state_dict[name] = torch.zeros(1).expand(16_000, 16_000)


def widened_references(content: Content) -> None:
    many = torch.zeros(1).expand(300_000_000)
    content.tasks_config[0]["element_references"] = {
        "_target_": REFERENCES,
        "element_references": many,
    }


def doubled(content: Content) -> None:
    """Thirty lists, each of which holds the one before it twice."""
    inner: list[Any] = ["oc20"]
    for _ in range(30):
        inner = [inner, inner]
    content.tasks_config[0]["datasets"] = inner


PICKLE_KINDS: dict[str, Callable[[Content], None]] = {
    "pickle in the config": pickle_in_config,
    "pickle among the weights": pickle_among_weights,
}
BOMBS: dict[str, Callable[[Content], None]] = {
    "widened weight": widened,
    "widened references": widened_references,
    "doubled lists": doubled,
    "many layers": in_backbone("num_layers", 10**9),
    "wide layers": in_backbone("sphere_channels", 10**9),
    "high degrees": in_backbone("lmax", 10**5),
    "fine grid": in_backbone("grid_resolution", 10**6),
    "long list": in_task("datasets", ["oc20"] * 1_000_000),
}


def write_hostile(path: Path, change: Callable[[Content], None]) -> Path:
    """The small direct checkpoint of `native_checkpoints` after ``change``."""
    content = inputs.checkpoint("direct")
    change(content)
    torch.save(content, path)
    return path
