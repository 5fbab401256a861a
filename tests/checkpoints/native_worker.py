"""Loads native files in a process of its own, in which nothing can be unpickled.

python native_worker.py <results.json> <file.safetensors>...
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import torch
from fairchem.core import FAIRChemCalculator
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings
from helpers import crystal, molecule, slab

import eqv2_plugin

SETTINGS = {
    "traineval": "traineval",
    "float64": InferenceSettings(
        activation_checkpointing=False, base_precision_dtype=torch.float64
    ),
}


def results(calculator: FAIRChemCalculator) -> list[dict]:
    found = []
    for atoms in (molecule(), slab(), crystal()):
        atoms.calc = calculator
        one = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces().tolist()}
        if "stress" in calculator.implemented_properties and atoms.pbc.all():
            one["stress"] = atoms.get_stress().tolist()
        found.append(one)
    return found


def _refused(*_args, **_kwargs):
    raise AssertionError("something was unpickled")


def main(output: str, *checkpoints: str) -> None:
    found: dict[str, dict] = {"native": {}, "checkpoint": {}}
    unpickling = torch.load, pickle.load, pickle.loads, pickle.Unpickler
    torch.load = pickle.load = pickle.loads = pickle.Unpickler = _refused
    for path in checkpoints:
        for name, settings in SETTINGS.items():
            native = Path(path).with_suffix(".safetensors")
            unit = eqv2_plugin.load(native, device="cpu", inference_settings=settings)
            found["native"][f"{native.stem} {name}"] = results(FAIRChemCalculator(unit))
    torch.load, pickle.load, pickle.loads, pickle.Unpickler = unpickling
    for path in checkpoints:
        for name, settings in SETTINGS.items():
            calculator = FAIRChemCalculator.from_model_checkpoint(
                path, device="cpu", inference_settings=settings
            )
            found["checkpoint"][f"{Path(path).stem} {name}"] = results(calculator)
    with open(output, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
