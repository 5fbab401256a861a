"""What a recipe of several data sets makes of them: fairchem's data sets, heads and tasks."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from eqv2_plugin.data.labels import LABELS, label_set
from eqv2_plugin.training.heads import CONSERVATIVE, DIRECT
from eqv2_plugin.training.own import own_references, own_scale
from eqv2_plugin.training.tasks import plain_task, trained_tasks

_HOW = "It is made of sets=; remove it to make it again."


def several_data_sets(numbers: Mapping[str, Any], part: str) -> dict[str, dict[str, Any]]:
    """The argument of `create_several_datasets`.

    Args:
        numbers: what `eqv2_plugin.data.own.several.prepared_sets` returns, as for all below.
        part: "train" or "val".
    """
    return {
        name: {
            "root": one["root"],
            "reader": {
                "format": "ase_db",
                "energy_dtype": "float64",
                "key_mapping": {label: f"{name}_{label}" for label in label_set(one["labels"])},
            },
            "splits": {part: {"src": part}},
            "how_to_get": _HOW,
            "repeats": one["repeats"] if part == "train" else 1,
        }
        for name, one in numbers["sets"].items()
    }


def several_heads(numbers: Mapping[str, Any], direct_forces: bool) -> dict[str, dict[str, Any]]:
    """The model's heads: of each data set one for all gradients, or one for each label."""
    if not direct_forces:
        return {name: {"module": CONSERVATIVE, "dataset": name} for name in numbers["sets"]}
    return {
        f"{name}_{label}": {"module": DIRECT[label]}
        for name, one in numbers["sets"].items()
        for label in label_set(one["labels"])
    }


def several_regress_stress(numbers: Mapping[str, Any], direct_forces: bool) -> bool:
    """The backbone's option: whether stress is wanted as a gradient."""
    return bool(numbers["stress"]) and not direct_forces


def several_tasks(
    options: Mapping[str, Any],
    numbers: Mapping[str, Any],
    direct_forces: bool,
    normalizer: str | None,
    checkpoint: str | None,
    unsafe: bool,
    training: str,
) -> list[dict[str, Any]]:
    """Configs of the tasks: of each data set those of its labels, called after it.

    Args:
        options: {label: config of the task}, whose normaliser, references and data sets are put in
            here, and whose loss counts as much as the data set does.
        normalizer, checkpoint, unsafe: see `own_scale`.
        training: "plain".

    Raises:
        ValueError: another training; see `own_scale` and `own_references`.
    """
    if training != "plain":
        raise ValueError(f"training={training} is for one data set: leave it out, or train one")
    common = {label: plain_task(options[label]) for label in LABELS}
    found = []
    for name, one in numbers["sets"].items():
        own = deepcopy(common)
        for label in label_set(one["labels"]):
            mean, rmsd = (
                own_scale(label, key, normalizer, checkpoint, unsafe, direct_forces, one)
                for key in ("mean", "rmsd")
            )
            own[label]["normalizer"] |= {"mean": mean, "rmsd": rmsd}
            own[label]["loss_fn"]["coefficient"] *= one["weight"]
        own["energy"]["element_references"] = own_references(
            one["source"], checkpoint, unsafe, one["references"], one["root"], one["root"]
        )
        for task in trained_tasks(own, one["labels"], direct_forces):
            found.append({**task, "name": f"{name}_{task['name']}", "datasets": [name]})
    return found
