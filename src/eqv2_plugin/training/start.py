"""What a fine-tuning run takes from the checkpoint that it starts from, besides the model.

fairchem keeps the config of the tasks in every checkpoint and makes the tasks from it when it is
loaded. So a config's resolvers write normalisers and element references out as numbers, from the
starting checkpoint or from a file: a path would not travel with the checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from ase.data import chemical_symbols
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint

from eqv2_plugin.checkpoints.door import read_inference_checkpoint, read_model
from eqv2_plugin.checkpoints.inference_checkpoint import averaged_weights
from eqv2_plugin.checkpoints.native import SUFFIX
from eqv2_plugin.checkpoints.record import NativeModel, as_checkpoint
from eqv2_plugin.data.datasets import create_datasets, labelled_frames
from eqv2_plugin.data.references.coefficients import (
    by_symbol,
    exact_references_config,
    load_coefficients,
    references_config,
)
from eqv2_plugin.data.references.linear_fit import compositions_of
from eqv2_plugin.data.references.ridge import fit_ridge
from eqv2_plugin.data.structures import plain
from eqv2_plugin.dens.force_scale import resolved_force_scale
from eqv2_plugin.training.refit import FRAMES, refitted_references

_ADVICE = (
    "give checkpoint=FILE: what `eqv2 convert` writes, or results/inference_ckpt.pt of a run. The "
    "default is what `make train` leaves"
)
# In place of a file's name.
FROM_CHECKPOINT, _NONE, REFIT = "checkpoint", "none", "refit"
_BLOCKS = {
    "energy": "energy_normalizer",
    "forces": "force_normalizer",
    "stress": "stress_normalizer",
}


@dataclass(frozen=True)
class StartCheckpoint:
    """Options of the model and of its tasks in a fairchem 2 inference checkpoint of ours, or in a
    native file."""

    path: Path
    model: dict[str, Any]
    tasks: list[dict[str, Any]]
    parameters: int  # how many numbers its weights hold

    def task(self, label: str) -> dict[str, Any] | None:
        """Options of the task that predicts ``label`` ("energy", ...), if there is one.

        Raises:
            ValueError: several data sets have such a task each.
        """
        found = [task for task in self.tasks if task["property"] == label]
        if len(found) > 1:
            names = ", ".join(", ".join(task["datasets"]) for task in found)
            raise ValueError(
                f"{self.path} has heads for several data sets ({names}), and training starts from "
                f"those of one: eqv2 export {self.path} ONE.safetensors --task NAME takes it out"
            )
        return found[0] if found else None


def read_start(path: str | Path, unsafe: bool = False) -> StartCheckpoint:
    """Read the configs of a checkpoint; the file is read once as long as it does not change.

    It may also be a native file (``.safetensors``). With ``unsafe`` whatever is in it is unpickled
    and believed.

    Raises:
        ValueError: it is damaged, holds what could run code, or is no inference checkpoint of
            a model of this package.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint to start from: {path} is no file; {_ADVICE}")
    status = path.stat()
    return _read_configs(path, status.st_mtime_ns, status.st_size, unsafe)


def ema_weights(path: Path, unsafe: bool = False) -> dict[str, torch.Tensor]:
    """The EMA weights, which fairchem predicts with, by the model's own names."""
    checkpoint = _read(path, unsafe)
    if not checkpoint.ema_state_dict:
        raise ValueError(f"{path} has no EMA weights to start from")
    return averaged_weights(checkpoint)


def start_normalizer(
    source: str, checkpoint: str, label: str, key: str, unsafe: bool = False
) -> float:
    """The ``key`` "mean" or "rmsd" of a label's ("energy", "forces" or "stress") normaliser.

    ``source`` is "checkpoint", or a file that ``eqv2 data fit-normalizer --out`` wrote.
    """
    if source == FROM_CHECKPOINT:
        task = read_start(checkpoint, unsafe).task(label)
        if task is None:
            raise ValueError(
                f"{checkpoint} predicts no {label}, so it has no normaliser for it: fit one with "
                "`eqv2 data fit-normalizer` and give normalizer=FILE.yaml"
            )
        values = task["normalizer"]
    else:
        values = _fitted(Path(source).expanduser()).get(_BLOCKS[label])
        if values is None:
            raise ValueError(
                f"{source} has no {_BLOCKS[label]}: for the checkpoint's give "
                f"{_BLOCKS[label]}.mean=0 and {_BLOCKS[label]}.rmsd=NUMBER"
            )
    try:
        return float(values[key])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"the normaliser of {label} has no number {key!r} (from {source}): {values!r}"
        ) from error


def start_force_scale(
    source: Any,
    data: Mapping[str, Any],
    exclude_splits: Sequence[str],
    checkpoint: str | None,
    unsafe: bool = False,
) -> float:
    """eV/Å by which encoded forces are divided (DeNS).

    ``source`` is "checkpoint", or as for `resolved_force_scale`.

    Raises:
        FileNotFoundError, ValueError: as there and as `read_start`.
    """
    if source != FROM_CHECKPOINT:
        return resolved_force_scale(source, data, exclude_splits)
    if checkpoint is None:
        raise ValueError("force_scale=checkpoint needs a checkpoint: give checkpoint=FILE")
    return float(read_start(checkpoint, unsafe).model["backbone"].get("force_scale", 1.0))


def start_references(
    source: str,
    checkpoint: str,
    unsafe: bool = False,
    data: Mapping[str, Any] | None = None,
    folder: str | None = None,
) -> dict[str, Any] | None:
    """Config of the energy's element references.

    ``source`` is "checkpoint", "none", "refit" (`refitted_references`, to the training frames of
    the config group ``data``; ``folder`` is the run's), a published name, or an ``.npz`` file that
    ``eqv2 data fit-references`` wrote.
    """
    if source == _NONE:
        return None
    if source == FROM_CHECKPOINT:
        task = read_start(checkpoint, unsafe).task("energy")
        return task.get("element_references") if task else None
    if source == REFIT:
        config = json.dumps(plain(data or {}), sort_keys=True)
        return references_config(_refitted(config, checkpoint, unsafe, folder))
    return references_config(by_symbol(load_coefficients(source)))


# Hydra resolves a config more than once.
@lru_cache(maxsize=4)
def _refitted(
    data_config: str, checkpoint: str, unsafe: bool, folder: str | None
) -> dict[str, float]:
    """{symbol: eV per atom} from some of all training frames, which must have energies."""
    data = json.loads(data_config)
    splits, reader = data["train_splits"], data["reader"]
    datasets = create_datasets(data["name"], data["root"], splits, reader, data["how_to_get"])
    frames = [split[index] for split in datasets.datasets for index in range(len(split))]
    if any("energy" not in frame for frame in frames):
        raise ValueError("references=refit needs an energy of every training frame")
    compositions = compositions_of([frame.atomic_numbers.numpy() for frame in frames])
    _, groups = np.unique(compositions, axis=0, return_inverse=True)
    energies = np.array([float(frame.energy) for frame in frames])
    fitted = by_symbol(fit_ridge(compositions, energies, groups.ravel()).coefficients)
    some = labelled_frames(datasets, FRAMES)
    return refitted_references(checkpoint, unsafe, some, fitted, folder)


def _fitted(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(
            f"normalizer={path} is no file: give one that `eqv2 data fit-normalizer --out` wrote, "
            "or normalizer=checkpoint"
        )
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no normalisers")
    return content


@lru_cache(maxsize=4)
def _read_configs(path: Path, changed: int, size: int, unsafe: bool) -> StartCheckpoint:
    checkpoint = _read(path, unsafe)
    parameters = sum(weight.numel() for weight in checkpoint.model_state_dict.values())
    return StartCheckpoint(path, checkpoint.model_config, checkpoint.tasks_config, parameters)


def _read(path: Path, unsafe: bool) -> MLIPInferenceCheckpoint:
    try:
        if path.suffix == SUFFIX:
            return _of_native(read_model(path))
        return read_inference_checkpoint(path, unsafe)
    except ValueError as error:
        raise ValueError(f"{error}; {_ADVICE}") from error


def _of_native(content: NativeModel) -> MLIPInferenceCheckpoint:
    """As a checkpoint whose tasks are plain data: element references by their symbols."""
    checkpoint = as_checkpoint(content)
    for task in checkpoint.tasks_config:
        values = content.references.get(task["name"])
        if values is not None:
            exact = task["out_spec"]["dtype"] == "float64"
            written = exact_references_config if exact else references_config
            task["element_references"] = written(by_symbol(values[: len(chemical_symbols)].numpy()))
    return checkpoint
