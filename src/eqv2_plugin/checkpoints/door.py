"""The one door for models: every command and every runner opens a file here.

A ``.pt`` file is a pickle, and the configuration in it names classes to be made. So it is
unpickled with the classes that a checkpoint needs and no others, its whole configuration is
compared with a list of classes, keys and kinds of values, and fairchem's predict unit is built
from what was compared. fairchem never sees the file.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from fairchem.core.units.mlip_unit import load_predict_unit
from fairchem.core.units.mlip_unit.api.inference import (
    InferenceSettings,
    MLIPInferenceCheckpoint,
    guess_inference_settings,
)
from fairchem.core.units.mlip_unit.predict import MLIPPredictUnit

from eqv2_plugin.checkpoints.inference_checkpoint import as_native, plain_checkpoint
from eqv2_plugin.checkpoints.native import SUFFIX, read_native, write_native
from eqv2_plugin.checkpoints.one_data_set import of_one_data_set
from eqv2_plugin.checkpoints.reading import read_checkpoint
from eqv2_plugin.checkpoints.record import NativeModel, as_checkpoint
from eqv2_plugin.models.known_elements import references_or_nan

Content = TypeVar("Content")


def read_model(path: str | Path, unsafe: bool = False) -> NativeModel:
    """What prediction needs of a model file: configuration, tasks, EMA weights, references.

    Args:
        path: fairchem's inference checkpoint (``.pt``) or a native file (``.safetensors``).
        unsafe: unpickle and believe whatever is in a ``.pt`` file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: damaged, of another kind, or with a class, key or value that is not allowed;
            the file is named.
    """
    path = _existing(path)
    if path.suffix == SUFFIX:
        return read_native(path)
    return _read(path, unsafe, as_native)


def read_inference_checkpoint(path: Path, unsafe: bool = False) -> MLIPInferenceCheckpoint:
    """All that a ``.pt`` file holds, with its configuration as checked, plain data."""
    return _read(path, unsafe, plain_checkpoint)


def _read(path: Path, unsafe: bool, checked: Callable[[Any, bool], Content]) -> Content:
    content = read_checkpoint(path, unsafe)
    try:
        return checked(content, unsafe)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def export_native(
    checkpoint: Path, out: Path, unsafe: bool = False, dataset: str | None = None
) -> NativeModel:
    """Write the native form of a checkpoint (``.pt``) of one of our models.

    Losses and metrics of its tasks stay behind: they serve training only.

    Args:
        dataset: of a model of several data sets the one of which alone it shall be.
    """
    content = read_model(checkpoint, unsafe)
    if dataset is not None:
        content = of_one_data_set(content, dataset)
    references = {name: references_or_nan(values) for name, values in content.references.items()}
    content = dataclasses.replace(content, references=references)
    write_native(content, out)
    return content


def open_model(
    path: str | Path,
    device: Literal["cpu", "cuda"] | None = None,
    inference_settings: InferenceSettings | str | None = "default",
    *,
    unsafe: bool = False,
    **options: Any,
) -> MLIPPredictUnit:
    """fairchem's predict unit of a model file; takes the place of ``load_predict_unit``.

    Args:
        path: see `read_model`.
        device: by default a GPU if there is one.
        inference_settings: fairchem's, or the name of some; None is "default", without compiling on
            a CPU, which takes minutes.
        unsafe: hand the file to fairchem's ``load_predict_unit``, which unpickles it and makes
            whatever it names: only for files that are trusted as one would trust a program.
        **options: ``overrides``, ``seed``, ``atom_refs`` and ``form_elem_refs`` as fairchem has
            them.
    """
    path = _existing(path)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = guess_inference_settings(inference_settings or "default")
    if inference_settings is None and device == "cpu":
        settings = dataclasses.replace(settings, compile=False)
    if not unsafe or path.suffix == SUFFIX:
        return CheckedPredictUnit(str(path), device=device, inference_settings=settings, **options)
    logging.getLogger(__name__).warning(
        "unsafe: %s is unpickled without restraint, and may run any code", path
    )
    try:
        return load_predict_unit(str(path), inference_settings=settings, device=device, **options)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} cannot be loaded as an inference checkpoint of fairchem 2: {reason}"
        ) from error


class CheckedPredictUnit(MLIPPredictUnit):
    """fairchem's predict unit, but it is built from `read_model` where fairchem unpickles."""

    def _load_model(self) -> None:
        # fairchem's method of this name, without Nitro (UMA only) and the tasks that some
        # backbones add by themselves (ours adds none).
        self.inference_settings.nitro = False
        self._load_hydra_model(as_checkpoint(read_model(self._inference_model_path)))
        asked = self._create_untrained_tasks(self.inference_settings, self.model.module.tasks)
        if asked:
            self.model.module.add_tasks(asked)
        self.model.eval()


def _existing(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return path
