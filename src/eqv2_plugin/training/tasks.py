"""What a recipe trains: fairchem's tasks, chosen by the labels that there are."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from omegaconf import OmegaConf

from eqv2_plugin.data.labels import LABELS, SCALAR, label_set


def trained_tasks(
    options: Mapping[str, Any], trained_labels: str, direct_forces: bool
) -> list[dict[str, Any]]:
    """Configs of the tasks of a recipe, in the order of ``options``.

    Args:
        options: {name of a task: its config}; those that are no labels (noise) always count.
            Options of a loss that are null are left out.
        trained_labels: a key of ``LABEL_SETS``.
        direct_forces: of the backbone. Where forces are gradients and not trained, they have a task
            for predictions alone, in units of the energy.

    Raises:
        ValueError: no such set of labels.
    """
    labels = label_set(trained_labels)
    found = []
    for name in options:
        if name in (*LABELS, SCALAR) and name not in labels:
            if name != "forces" or direct_forces or "energy" not in labels:
                continue
            task = plain_task(options[name])
            scale = {**plain_task(options["energy"])["normalizer"], "mean": 0.0}
            task |= {"loss_fn": None, "normalizer": scale, "metrics": [], "inference_only": True}
        else:
            task = plain_task(options[name])
            loss = task["loss_fn"]
            task["loss_fn"] = {key: value for key, value in loss.items() if value is not None}
        found.append(task)
    return found


def plain_task(task: Any) -> dict[str, Any]:
    """One of them; of tasks that are not trained, numbers may be nowhere to be found."""
    if OmegaConf.is_config(task):
        found: Any = OmegaConf.to_container(task, resolve=True)
        return found
    return deepcopy(dict(task))
