"""What a process of its own does with model files.

python fresh_worker.py <results.json> <converted.pt> <checkpoint.pt with a .safetensors beside>...

It relaxes a structure before it imports the package, and loads native files while nothing can be
unpickled.
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import torch
from ase import Atoms
from ase.build import fcc111
from ase.optimize import LBFGS
from fairchem.core import FAIRChemCalculator
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings

STEPS = 5
SETTINGS = {
    "traineval": "traineval",
    "float64": InferenceSettings(
        activation_checkpointing=False, base_precision_dtype=torch.float64
    ),
}


def structure() -> Atoms:
    atoms = fcc111("Cu", (2, 2, 2), vacuum=6, periodic=True)
    atoms.rattle(0.1, seed=3)
    return atoms


def relaxed(checkpoint: str) -> dict:
    assert not any(name.startswith("eqv2_plugin") for name in sys.modules)
    atoms = structure()
    atoms.calc = FAIRChemCalculator.from_model_checkpoint(
        checkpoint, device="cpu", inference_settings="traineval"
    )
    energies = [atoms.get_potential_energy()]
    for _ in LBFGS(atoms, logfile=None).irun(fmax=1e-9, steps=STEPS):
        energies.append(atoms.get_potential_energy())
    return {"energies": energies[1:], "positions": atoms.positions.tolist()}


def results(calculator: FAIRChemCalculator) -> list[dict]:
    from helpers import crystal, molecule, slab

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


def main(output: str, converted: str, *checkpoints: str) -> None:
    found: dict[str, dict] = {"relaxed": relaxed(converted), "native": {}, "checkpoint": {}}
    import eqv2_plugin

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
    Path(output).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
