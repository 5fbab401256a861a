"""What a fine-tuning run takes from the checkpoint that it starts from, besides weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint

from eqv2_plugin.checkpoints.inference_checkpoint import read_inference_checkpoint
from eqv2_plugin.checkpoints.whitelist import with_full_names

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


def read_start(path: str | Path, unsafe: bool = False) -> StartCheckpoint:
    """Read the configs of a checkpoint; the file is read once as long as it does not change.

    Args:
        path: the ``.pt`` file.
        unsafe: unpickle and believe whatever is in it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, holds what could run code, or is no inference checkpoint of
            EquiformerV2.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint to start from: {path} is no file; {_MEND}")
    status = path.stat()
    return _read_configs(path, status.st_mtime_ns, status.st_size, unsafe)


def averaged_weights(path: str | Path, unsafe: bool = False) -> dict[str, torch.Tensor]:
    """The averaged (EMA) weights, which fairchem predicts with, by the model's own names.

    Raises:
        ValueError: as `read_start`, or there are none.
    """
    averaged = _read(Path(path).expanduser(), unsafe).ema_state_dict
    if not averaged:
        raise ValueError(f"{path} has no averaged (EMA) weights to start from")
    return {
        name.removeprefix("module."): value
        for name, value in averaged.items()
        if name != "n_averaged"
    }


@lru_cache(maxsize=4)
def _read_configs(path: Path, changed: int, size: int, unsafe: bool) -> StartCheckpoint:
    checkpoint = _read(path, unsafe)
    return StartCheckpoint(path, with_full_names(checkpoint.model_config), checkpoint.tasks_config)


def _read(path: Path, unsafe: bool) -> MLIPInferenceCheckpoint:
    try:
        return read_inference_checkpoint(path, unsafe)
    except ValueError as error:
        raise ValueError(f"{error}; {_MEND}") from error
