"""Of a model of several data sets the part that predicts for one: a model like any other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from eqv2_plugin.checkpoints.record import NativeHeader, NativeModel
from eqv2_plugin.common.options import did_you_mean


def of_one_data_set(content: NativeModel, dataset: str) -> NativeModel:
    """The same model without the heads and tasks of other data sets.

    Its tasks are called by their properties, as those of a model of one data set are, so that
    training can start from it.

    Raises:
        ValueError: the model has no such data set.
    """
    tasks = content.header.tasks
    known = sorted({name for task in tasks for name in task.datasets})
    if dataset not in known:
        raise ValueError(
            f"the model has no data set {dataset!r}; it has {', '.join(known)}"
            f"{did_you_mean(dataset, known) if len(known) > 1 else ''}"
        )
    own = {task.name: task for task in tasks if dataset in task.datasets}
    others = {task.name for task in tasks if task.datasets} - set(own)
    heads: dict[str, Any] = {}
    names: dict[str, str] = {}  # of heads, before and now
    for name, head in content.header.model["heads"].items():
        if head.get("dataset", dataset) != dataset or name in others:
            continue
        names[name] = own[name].property if name in own else name
        heads[names[name]] = {key: value for key, value in head.items() if key != "dataset"}
    kept = [
        dataclasses.replace(task, name=task.property, datasets=(dataset,)) for task in own.values()
    ]
    model = dict(content.header.model)
    model |= {"heads": heads, "facts": {**model.get("facts", {}), "training_data": dataset}}
    if model["backbone"].get("regress_stress") and "stress" not in {task.name for task in kept}:
        # A gradient that nobody would read.
        model["backbone"] = {**model["backbone"], "regress_stress": False}
    return NativeModel(
        NativeHeader(model, tuple(kept)),
        _renamed(content.weights, names),
        {own[n].property: value for n, value in content.references.items() if n in own},
    )


def _renamed(weights: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Without those of other heads."""
    found = {}
    for name, value in weights.items():
        part, _, rest = name.partition(".")
        head, _, inner = rest.partition(".")
        if part != "output_heads":
            found[name] = value
        elif head in names:
            found[f"{part}.{names[head]}.{inner}"] = value
    return found
