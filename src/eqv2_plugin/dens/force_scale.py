"""``force_scale``, the unit of encoded forces: as a recipe gives it, or from training labels."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from eqv2_plugin.data.datasets import create_datasets, evenly_spaced

AUTO = "auto"
# Of the labels' median |F|. For rMD17 ethanol (1.50 eV/Å) this is 1 kcal/mol/Å, the unit of the
# published MD17 code; docs/dens.md has the scales that were measured.
_PARTS = 35.0


def resolved_force_scale(
    value: Any, data: Mapping[str, Any], exclude_splits: Sequence[str] = ()
) -> float:
    """The ``force_scale`` of a configuration in eV/Å.

    Args:
        value: a number, or "auto": a 35th of the median |F| over free atoms of up to 1000 frames of
            each training split, in three digits. The median, because a few frames far from
            equilibrium, which relaxations begin with, move a mean or a root mean square.
        data: config group ``data`` of a recipe; read for "auto" alone.
        exclude_splits: training splits that are never corrupted.

    Raises:
        ValueError: no positive number, or labels that give none.
        FileNotFoundError: the training data is not there.
    """
    if value == AUTO:
        plain = OmegaConf.to_container(data, resolve=True) if OmegaConf.is_config(data) else data
        return _from_labels(json.dumps(plain, sort_keys=True), tuple(exclude_splits))
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0.0 < value < math.inf:
        raise ValueError(
            f"force_scale must be a positive number of eV/Å, or {AUTO!r} to take it from the "
            f"training labels, got {value!r}"
        )
    return float(value)


# Hydra resolves a config more than once.
@lru_cache(maxsize=4)
def _from_labels(data_config: str, exclude_splits: tuple[str, ...]) -> float:
    data = json.loads(data_config)
    sources = {k: v for k, v in data["train_splits"].items() if k not in exclude_splits}
    datasets = create_datasets(
        data["name"], data["root"], sources, data["reader"], data["how_to_get"]
    )
    norms = []
    for name, dataset in zip(datasets.dataset_names, datasets.datasets, strict=True):
        for index, frame in evenly_spaced(dataset):
            if "forces" not in frame:
                raise ValueError(
                    f"force_scale={AUTO} needs force labels, and frame {index} of {name} has none: "
                    "give a number of eV/Å"
                )
            norms.append(np.linalg.norm(frame.forces[frame.fixed == 0].double().numpy(), axis=1))
    median = float(np.median(np.concatenate(norms))) if norms else 0.0
    if not 0.0 < median < math.inf:
        raise ValueError(
            f"force_scale={AUTO} needs forces on free atoms, but their median in the training "
            f"labels of {data['name']} is {median:g} eV/Å: give a number"
        )
    return float(f"{median / _PARTS:.3g}")
