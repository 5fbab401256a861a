"""Runs fairchem's calculator in a process of its own, which never imports the package.

    python calculator_worker.py <results.json> <scenario>:<checkpoint> ...

fairchem has to find the classes by the dotted paths in the checkpoint alone.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from functools import partial
from pathlib import Path

import torch
from ase import Atoms
from ase.build import fcc111
from ase.build import molecule as ase_molecule
from ase.optimize import LBFGS
from fairchem.core import FAIRChemCalculator
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings

FLOAT64 = torch.float64
EAGER = {
    "traineval": "traineval",
    "batch": "batch",
    "float64": InferenceSettings(activation_checkpointing=False, base_precision_dtype=FLOAT64),
    "external_graph": InferenceSettings(external_graph_gen=True),
    "graph_version_3": InferenceSettings(internal_graph_gen_version=3),
    "chunks": InferenceSettings(edge_chunk_size=20),
}


def slab(element: str, size: tuple[int, int, int], seed: int) -> Atoms:
    atoms = fcc111(element, size, vacuum=6, periodic=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def structures() -> list[Atoms]:
    """10, 12, 18 and 9 atoms."""
    sizes = {"Cu": (5, 2, 1), "Ni": (3, 2, 2), "Pt": (3, 3, 2)}
    slabs = [slab(element, size, i) for i, (element, size) in enumerate(sizes.items())]
    return [*slabs, ase_molecule("CH3CH2OH")]


def isolated_atoms() -> list[Atoms]:
    return [Atoms("Cu"), Atoms("Cu", cell=[20, 20, 20], pbc=True)]


def calculator(checkpoint: str, settings: str | InferenceSettings) -> FAIRChemCalculator:
    calc = FAIRChemCalculator.from_model_checkpoint(
        checkpoint, task_name="oc20", device="cpu", inference_settings=settings
    )
    if calc.predictor.inference_settings.external_graph_gen:
        # The calculator's own choice needs pymatgen, which fairchem does not depend on.
        calc.a2g = partial(calc.a2g, external_graph_method="nvidia")
    return calc


def results(calc: FAIRChemCalculator, atoms: Atoms) -> dict:
    atoms = atoms.copy()
    atoms.calc = calc
    found = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces().tolist()}
    if "stress" in calc.implemented_properties and atoms.pbc.all():
        found["stress"] = atoms.get_stress().tolist()
    return found


def eager(checkpoint: str) -> dict:
    found = {}
    for name, settings in EAGER.items():
        calc = calculator(checkpoint, settings)
        found[name] = [results(calc, atoms) for atoms in structures()]
    calc = calculator(checkpoint, "traineval")
    for run in ("first", "second"):
        found[f"again_{run}"] = [results(calc, atoms) for atoms in structures()]
        relaxed = structures()[0]
        relaxed.calc = calculator(checkpoint, "traineval")
        LBFGS(relaxed, logfile=None).run(fmax=1e-9, steps=5)
        found[f"relaxed_{run}"] = relaxed.positions.tolist()
    found["start"] = structures()[0].positions.tolist()
    return found


def isolated(checkpoint: str) -> dict:
    presets = {name: EAGER[name] for name in ("traineval", "batch")}
    return {
        name: [results(calculator(checkpoint, settings), atoms) for atoms in isolated_atoms()]
        for name, settings in presets.items()
    }


class SaidOfCompiling(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "compile" in record.getMessage():
            self.lines.append(record.getMessage())


def compiled(checkpoint: str, preset: str) -> dict:
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    reference = calculator(checkpoint, "traineval")
    eager_results = [results(reference, atoms) for atoms in structures()]
    calc = calculator(checkpoint, preset)
    said = SaidOfCompiling()
    logging.getLogger().addHandler(said)
    begin = time.time()
    found = {"eager": eager_results, "results": [results(calc, structures()[0])]}
    found["seconds"] = time.time() - begin
    before = counters["frames"]["total"], counters["stats"]["unique_graphs"]
    found["results"] += [results(calc, atoms) for atoms in structures()[1:]]
    found["frames"] = before[0], counters["frames"]["total"]
    found["graphs"] = before[1], counters["stats"]["unique_graphs"]
    found["again"] = [results(calc, atoms) for atoms in structures()]
    logging.getLogger().removeHandler(said)
    found["said"] = said.lines
    return found


def main(output: str, *wanted: str) -> None:
    assert not any(name.startswith("eqv2_plugin") for name in sys.modules)
    scenarios = {
        "eager": eager,
        "isolated": isolated,
        "high-precision": lambda path: compiled(path, "high-precision"),
        "default": lambda path: compiled(path, "default"),
    }
    found = {}
    for one in wanted:
        scenario, checkpoint = one.split(":")
        found[f"{scenario} {Path(checkpoint).stem}"] = scenarios[scenario](checkpoint)
    with open(output, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
