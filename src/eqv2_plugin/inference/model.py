"""The model that predicts, from the option ``checkpoint=FILE``."""

from __future__ import annotations

from pathlib import Path

from fairchem.core.units.mlip_unit.api.inference import InferenceSettings
from fairchem.core.units.mlip_unit.predict import MLIPPredictUnit

from eqv2_plugin.checkpoints import door
from eqv2_plugin.inference.predictor import Device


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
