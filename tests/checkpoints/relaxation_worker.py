"""Relaxes a structure in a process of its own, which never imports the package.

python relaxation_worker.py <checkpoint> <results.json>
"""

from __future__ import annotations

import json
import sys

from ase import Atoms
from ase.build import fcc111
from ase.optimize import LBFGS
from fairchem.core import FAIRChemCalculator

STEPS = 5


def structure() -> Atoms:
    atoms = fcc111("Cu", (2, 2, 2), vacuum=6, periodic=True)
    atoms.rattle(0.1, seed=3)
    return atoms


def main(checkpoint: str, output: str) -> None:
    assert not any(name.startswith("eqv2_plugin") for name in sys.modules)
    atoms = structure()
    atoms.calc = FAIRChemCalculator.from_model_checkpoint(
        checkpoint, device="cpu", inference_settings="traineval"
    )
    energies = [atoms.get_potential_energy()]
    for _ in LBFGS(atoms, logfile=None).irun(fmax=1e-9, steps=STEPS):
        energies.append(atoms.get_potential_energy())
    with open(output, "w") as file:
        json.dump({"energies": energies[1:], "positions": atoms.positions.tolist()}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
