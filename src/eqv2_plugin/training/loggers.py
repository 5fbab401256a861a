"""The figures of a run in Weights & Biases or TensorBoard: ``logger=wandb``, ``tensorboard``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import wandb
from fairchem.core.common import distutils
from fairchem.core.common.logger import WandBSingletonLogger

from eqv2_plugin.common.options import did_you_mean

WANDB, TENSORBOARD = "wandb", "tensorboard"
FOLDER = "tensorboard"  # in the run's folder


class FigureLog(Protocol):
    """Where figures go, beside the files of the results."""

    def log(self, figures: dict[str, float], step: int) -> None:
        """Figures after so many steps."""

    def close(self) -> None:
        """The run has ended."""


def job_logger(logger: str | None, project: str) -> dict[str, Any] | None:
    """fairchem's ``job.logger`` for a recipe's ``logger``: its own for wandb, else none.

    Raises:
        ValueError: there is no such logger, or its package is missing.
    """
    if logger is None:
        return None
    if logger not in (WANDB, TENSORBOARD):
        hint = did_you_mean(logger, [WANDB, TENSORBOARD])
        raise ValueError(f"logger={logger}: there is no such logger{hint}")
    if find_spec(logger) is None:
        raise ValueError(f"logger={logger} needs a package: pip install {logger}")
    if logger == TENSORBOARD:
        return None
    init = "fairchem.core.common.logger.WandBSingletonLogger.init_wandb"
    return {"_target_": init, "_partial_": True, "project": project, "entity": None}


def open_log(logger: str | None, run: Path, step: int) -> FigureLog | None:
    """Of the first rank, for a run that goes on after ``step``; None without a logger."""
    if logger is None or not distutils.is_master():
        return None
    return _Wandb() if logger == WANDB else _TensorBoard(run / FOLDER, step)


class _Wandb:
    """The run that fairchem's launcher has begun, into which fairchem writes each step."""

    def log(self, figures: dict[str, float], step: int) -> None:
        # fairchem ends the entry of this step.
        WandBSingletonLogger.get_instance().log(figures, step=step, commit=False)

    def close(self) -> None:
        # Now, not when the process ends: what it still holds would be lost with a killed one.
        wandb.finish()


class _TensorBoard:
    """torch's writer: fairchem's logger of this name fails where it warns of its deprecation."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What comes after the checkpoint that is resumed from will be written again.
        self._writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def log(self, figures: dict[str, float], step: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
