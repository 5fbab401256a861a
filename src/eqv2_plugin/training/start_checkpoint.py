"""What a fine-tuning run takes from the checkpoint that it starts from, besides weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from fairchem.core.common.registry import registry
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint
from omegaconf import OmegaConf

from eqv2_plugin.backbone import EquiformerV2Backbone
from eqv2_plugin.checkpoints.reading import inference_classes, read_checkpoint

_MEND = (
    "give checkpoint=FILE: what `eqv2 convert` writes, or results/inference_ckpt.pt of a run. The "
    "default is what `make train` leaves"
)


@dataclass(frozen=True)
class StartCheckpoint:
    """Configs of a fairchem 2 inference checkpoint of one of our models, as plain data.

    Attributes:
        path: where it is.
        model: options of the model.
        tasks: options of its tasks.
    """

    path: Path
    model: dict[str, Any]
    tasks: list[dict[str, Any]]

    def task(self, label: str) -> dict[str, Any] | None:
        """Options of the task that predicts ``label`` ("energy", ...), if there is one."""
        return next((task for task in self.tasks if task["property"] == label), None)


def read_start(path: str | Path) -> StartCheckpoint:
    """Read the configs of a checkpoint; the file is read once as long as it does not change.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds classes that could run code, or is no inference
            checkpoint of EquiformerV2.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint to start from: {path} is no file; {_MEND}")
    status = path.stat()
    return _read_configs(path, status.st_mtime_ns, status.st_size)


def averaged_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """The averaged (EMA) weights, which fairchem predicts with, by the model's own names.

    Raises:
        ValueError: as `read_start`, or there are none.
    """
    averaged = _read(Path(path).expanduser()).ema_state_dict
    if not averaged:
        raise ValueError(f"{path} has no averaged (EMA) weights to start from")
    return {
        name.removeprefix("module."): torch.as_tensor(value)
        for name, value in averaged.items()
        if name != "n_averaged"
    }


@lru_cache(maxsize=4)
def _read_configs(path: Path, changed: int, size: int) -> StartCheckpoint:
    checkpoint = _read(path)
    model, tasks = _plain(checkpoint.model_config), _plain(checkpoint.tasks_config)
    backbone = model.get("backbone", {}).get("model")
    found = registry.get_model_class(backbone) if backbone else None
    if found is None or not issubclass(found, EquiformerV2Backbone):
        raise ValueError(
            f"{path} holds a model with the backbone {backbone!r}, not EquiformerV2: {_MEND}"
        )
    return StartCheckpoint(path, model, tasks)


def _read(path: Path) -> MLIPInferenceCheckpoint:
    # Before fairchem unpickles the file: nothing that could run code is in it.
    checkpoint = read_checkpoint(path, classes=inference_classes())
    if not isinstance(checkpoint, MLIPInferenceCheckpoint):
        raise ValueError(
            f"{path} is no inference checkpoint of fairchem 2. Those of fairchem-core 1 are "
            f"converted with `eqv2 convert OLD.pt NEW.pt`; else {_MEND}"
        )
    return checkpoint


def _plain(config: Any) -> Any:
    if OmegaConf.is_config(config):
        return OmegaConf.to_container(config, resolve=True)
    if isinstance(config, dict):
        return {key: _plain(value) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [_plain(value) for value in config]
    return config
