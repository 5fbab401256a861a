"""Several data sets of a user's files, each prepared as one is, for a model of them all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from eqv2_plugin.common.options import among, make_options
from eqv2_plugin.data.datasets import check_data_set_name
from eqv2_plugin.data.labels import LABEL_SETS, SCALAR
from eqv2_plugin.data.own.given import patterns
from eqv2_plugin.data.own.prepare import OwnData, prepare
from eqv2_plugin.data.own.scales import FIT, REFIT
from eqv2_plugin.data.structures import plain


@dataclass(frozen=True)
class SetOptions:
    """One entry of the option ``sets``; what is not said here is as in `OwnData`."""

    train: str | tuple[str, ...]
    val: str | tuple[str, ...] | None = None
    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None
    group_key: str | None = None
    labels: str | None = None
    # Of the energy, as in `OwnData`; None is ``fit``, and ``refit`` of a run from a checkpoint.
    references: str | None = None
    repeats: int = 1  # times that every training frame occurs in an epoch
    weight: float = 1.0  # of its losses

    def __post_init__(self) -> None:
        if self.labels is not None:
            among("labels", self.labels, [name for name in LABEL_SETS if name != SCALAR])
        if self.repeats < 1:
            raise ValueError(f"repeats={self.repeats} must be a whole number, 1 or more")
        if not self.weight > 0:
            raise ValueError(f"weight={self.weight:g} must be a positive number")


def set_options(sets: Any) -> dict[str, SetOptions]:
    """The option ``sets``: {name: files, or a mapping of `SetOptions`}.

    Raises:
        ValueError: fewer than two, a name that cannot be, or an option that does not exist.
    """
    if not isinstance(sets, Mapping) or len(sets) < 2:
        raise ValueError(
            "sets names two data sets or more, as in 'sets={pbe: a.extxyz, hybrid: b.extxyz}'; one "
            "is trained by eqv2_train.yml train=FILE"
        )
    found = {}
    for name, given in sets.items():
        check_data_set_name(str(name))
        options = given if isinstance(given, Mapping) else {"train": given}
        found[str(name)] = make_options(SetOptions, options, f"the data set {name}")
    return found


def prepared_sets(
    folder: str,
    sets: Mapping[str, Any],
    val_fraction: float,
    cutoff: float | None,
    max_neighbors: int | None,
    seed: int,
    checkpoint: str | None = None,
) -> dict[str, Any]:
    """`prepare` of each data set, below a folder of its name; said once, as `prepared` does.

    Args:
        sets: see `set_options`; the rest as in `OwnData`.
        checkpoint: that training starts from.

    Returns:
        ``sets`` ({name: what `prepare` returns, with ``source`` of its references, ``repeats`` and
        ``weight``}), and of all together ``frames`` (in an epoch), ``stress`` (whether any has such
        labels), ``max_num_elements``, ``avg_num_nodes`` and ``avg_degree``.

    Raises:
        ValueError: see `set_options` and `prepare`; the data set is named.
    """
    text = json.dumps(plain({"sets": sets})["sets"])
    return _prepared(folder, text, checkpoint, val_fraction, cutoff, max_neighbors, seed)


@cache
def _prepared(folder: str, sets: str, checkpoint: str | None, *shared: Any) -> dict[str, Any]:
    val_fraction, cutoff, max_neighbors, seed = shared
    found: dict[str, dict[str, Any]] = {}
    sources = several_sources(json.loads(sets), checkpoint)
    for name, one in set_options(json.loads(sets)).items():
        data = OwnData(
            train=patterns(one.train),
            val=None if one.val is None else patterns(one.val),
            val_fraction=val_fraction,
            group_key=one.group_key,
            energy_key=one.energy_key,
            forces_key=one.forces_key,
            references=FIT if sources[name] == REFIT else sources[name],
            cutoff=cutoff,
            max_neighbors=max_neighbors,
            seed=seed,
            stress_key=one.stress_key,
            labels=one.labels,
        )
        try:
            numbers = prepare(data, Path(folder) / name)
        except (ValueError, FileNotFoundError) as error:
            raise type(error)(f"data set {name}: {error}") from error
        added = {"source": sources[name], "repeats": one.repeats, "weight": one.weight}
        found[name] = {**numbers, **added}
        lines = [f"Your data, {name}:", *(f"  {line}" for line in numbers["summary"])]
        print("\n".join(lines), flush=True)
    frames = {name: one["frames"] * one["repeats"] for name, one in found.items()}
    total = sum(frames.values())

    def mean(key: str) -> float:
        return sum(found[name][key] * count for name, count in frames.items()) / total

    return {
        "sets": found,
        "names": ", ".join(found),
        "frames": total,
        "labels": ", ".join(f"{name}: {one['labels']}" for name, one in found.items()),
        "stress": any("stress" in one["labels"] for one in found.values()),
        "max_num_elements": max(one["max_num_elements"] for one in found.values()),
        "avg_num_nodes": mean("avg_num_nodes"),
        "avg_degree": None if cutoff is None else mean("avg_degree"),
    }


def several_sources(sets: Mapping[str, Any], checkpoint: str | None = None) -> dict[str, str]:
    """{data set: where the references of its energies come from}."""
    default = FIT if checkpoint is None else REFIT
    return {name: one.references or default for name, one in set_options(sets).items()}


def several_name(sets: Mapping[str, Any], checkpoint: str | None = None) -> str:
    """What a run is called by default: "pbe-hybrid", with a checkpoint "pbe-hybrid-finetuned"."""
    name = "-".join(set_options(sets))
    return name if checkpoint is None else f"{name}-finetuned"
