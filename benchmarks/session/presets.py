"""fairchem's presets through its calculator: the first call, and later ones."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from ase import Atoms
from fairchem.core import FAIRChemCalculator
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings
from session.models import random_checkpoint, slabs, timed
from session.setting import Jobs, Setting

from eqv2_plugin.checkpoints.door import open_model
from eqv2_plugin.kernels.choice import use_fused_kernels

_FLOAT64 = InferenceSettings(activation_checkpointing=False, base_precision_dtype=torch.float64)


def jobs(setting: Setting) -> Jobs:
    """One row per preset; last, what compiles once kernels are off."""
    for name in ("batch", "default", "high-precision"):
        yield name, partial(measure, setting, name, True)
    yield "float64", partial(measure, setting, _FLOAT64, True)
    if not setting.tiny:
        yield (
            "high-precision, compiled by torch",
            partial(measure, setting, "high-precision", False),
        )


def measure(setting: Setting, preset: str | InferenceSettings, kernels: bool) -> dict[str, Any]:
    """Seconds of the first call, milliseconds of the same and of other sizes."""
    name = "tiny" if setting.tiny else "31M"
    path = random_checkpoint(name, setting.folder / "models" / f"{name}.safetensors")
    unit = open_model(path, setting.device, preset)
    calculator = FAIRChemCalculator(unit, task_name="oc20")
    sizes = (18, 18) if setting.tiny else (70, 18, 500)
    with use_fused_kernels(kernels):
        found: dict[str, Any] = {}
        for index, atoms in enumerate(sizes):
            (structure,) = slabs(1, atoms, first=index)
            first = _call(calculator, structure, setting.device)
            if not index:
                found["first call, s"] = first
            repeats = 1 if setting.tiny else 5
            again = min(_call(calculator, structure, setting.device) for _ in range(repeats))
            found[f"{atoms} atoms, ms"] = 1e3 * again
        return found


def _call(calculator: FAIRChemCalculator, atoms: Atoms, device: str) -> float:
    calculator.reset()
    return timed(lambda: calculator.calculate(atoms, ["energy", "forces"], None), device)
