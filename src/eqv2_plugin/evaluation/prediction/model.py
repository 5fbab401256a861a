"""The model that predicts, from the option ``checkpoint=FILE``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings
from fairchem.core.units.mlip_unit.predict import MLIPPredictUnit

from eqv2_plugin.checkpoints import door
from eqv2_plugin.evaluation.prediction.reading import Item
from eqv2_plugin.evaluation.predictor import BatchPredictor, Device


def open_model(
    checkpoint: str | None, device: Device, settings: InferenceSettings, unsafe: bool = False
) -> MLIPPredictUnit:
    """The predict unit of a checkpoint.

    Args:
        checkpoint: an inference checkpoint of fairchem 2, or a file of ``eqv2 export``.
        device: where it predicts.
        settings: fairchem's settings of inference.
        unsafe: let fairchem load whatever is in the file, also a model that is not ours.

    Raises:
        FileNotFoundError: none given, or no such file.
        ValueError: see `eqv2_plugin.checkpoints.door.open_model`.
    """
    if checkpoint is None:
        raise FileNotFoundError(
            "no model: give checkpoint=FILE, an inference checkpoint (results/inference_ckpt.pt of "
            "a training run, or what `eqv2 convert` writes) or a .safetensors file of `eqv2 export`"
        )
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint={checkpoint}: there is no such file")
    return door.open_model(path, device, settings, unsafe=unsafe)


def predict_items(
    predict: BatchPredictor, items: Sequence[Item]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Predict a batch.

    Returns:
        Energies [n] eV, and n arrays [free atoms, 3] of forces, eV/Å, in the model's precision.

    Raises:
        ValueError: a structure that the model refuses; its id is named.
        MemoryError: the device has too little memory for the batch.
    """
    try:
        found = predict([item.atoms for item in items])
    except torch.cuda.OutOfMemoryError as error:
        atoms = sum(len(item.atoms) for item in items)
        raise MemoryError(
            f"the device has too little memory for a batch of {atoms} atoms: lower atoms_per_batch "
            "and run the same command again; finished parts are kept"
        ) from error
    except ValueError as error:
        raise _named(predict, items, error) from error
    forces = [p.forces[item.free] for p, item in zip(found, items, strict=True)]
    return np.array([p.energy for p in found]), forces


def _named(predict: BatchPredictor, items: Sequence[Item], error: ValueError) -> ValueError:
    """The error of the first structure that the model refuses on its own."""
    if len(items) > 1:
        for item in items:
            try:
                predict([item.atoms])
            except ValueError as own:
                return ValueError(f"{item.id}: {own}")
    return ValueError(f"{', '.join(item.id for item in items[:5])}: {error}")
