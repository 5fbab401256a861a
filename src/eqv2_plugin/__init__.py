"""EquiformerV2 and DeNS for fairchem-core 2.

Importing the package registers its classes under the names that fairchem-core 1 used.
Configs and checkpoints name them by their full path, which works without an import.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

from eqv2_plugin import earlier_paths
from eqv2_plugin.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from fairchem.core.units.mlip_unit.api.inference import InferenceSettings
    from fairchem.core.units.mlip_unit.predict import MLIPPredictUnit

__all__ = [
    "ConservativeHead",
    "EnergyHead",
    "EquiformerV2",
    "EquiformerV2Backbone",
    "ForceHead",
    "LmdbDataset",
    "OC22LmdbDataset",
    "StressHead",
    "__version__",
    "load",
]

earlier_paths.install()
if not getattr(sys.modules.get("eqv2_entry"), "started", False):
    from eqv2_plugin.registered import (
        ConservativeHead,
        EnergyHead,
        EquiformerV2,
        EquiformerV2Backbone,
        ForceHead,
        LmdbDataset,
        OC22LmdbDataset,
        StressHead,
    )


def __getattr__(name: str) -> Any:
    """The exported classes, where the command has not registered them yet."""
    if name in __all__:
        from eqv2_plugin import registered

        return getattr(registered, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(
    path: str | Path,
    device: Literal["cpu", "cuda"] | None = None,
    inference_settings: InferenceSettings | str | None = None,
    unsafe: bool = False,
) -> MLIPPredictUnit:
    """fairchem's predict unit of a model file; nothing in the file is run.

    ``FAIRChemCalculator(eqv2_plugin.load("model.safetensors"))`` predicts bit for bit what
    the checkpoint predicts that the file was exported from; a ``.pt`` checkpoint may be given
    as well, and predicts what it predicts when fairchem loads it.

    Args:
        path: what ``eqv2 export`` wrote (``.safetensors``, of which nothing is unpickled), or
            an inference checkpoint (``.pt``), unpickled with the classes that it needs alone.
        device: by default a GPU if there is one.
        inference_settings: as for fairchem's ``load_predict_unit``; None is "default", but nothing
            is compiled by torch on a CPU: that takes minutes, which long dynamics alone earn (give
            "default", or see ``inference.compiled.compile_predictions``).
        unsafe: let fairchem load a ``.pt`` file as it likes, which may run any code.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file that is truncated, of another kind or version, that names classes
            other than ours, or whose weights do not fit its configuration.
    """
    # Predict units bring much along that training does not need.
    from eqv2_plugin.checkpoints.door import open_model

    return open_model(path, device, inference_settings, unsafe=unsafe)
