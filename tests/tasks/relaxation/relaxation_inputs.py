"""Structures, models and data sets that the tests of relaxations share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import ase.db
import numpy as np
import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from native_checkpoints import write_checkpoint

from eqv2_plugin.inference.predictor import BatchPredictor, Predict, Prediction, open_unit
from eqv2_plugin.inference.settings import RelaxationSettings

SHORT = RelaxationSettings(fmax=0.06, steps=10)


def surface(seed: int, size: tuple[int, int, int] = (2, 1, 2)) -> Atoms:
    """A copper slab with an oxygen atom, away from its minimum, lower layer fixed."""
    atoms = fcc111("Cu", size, vacuum=6.0, periodic=True)
    add_adsorbate(atoms, "O", 1.4 + 0.05 * (seed % 5), "hcp")
    atoms.set_constraint(FixAtoms(mask=atoms.get_tags() == size[2]))
    atoms.rattle(0.02 + 0.02 * (seed % 4), seed=seed)
    return atoms


def surfaces(count: int) -> list[tuple[str, Atoms]]:
    sizes = [(2, 1, 2), (2, 2, 2), (1, 1, 3)]
    return [(f"s{seed}", surface(seed, sizes[seed % 3])) for seed in range(count)]


def emt_once(atoms: Atoms) -> Prediction:
    """EMT without memory of earlier calls, so that its bits depend on the positions only."""
    bare = atoms.copy()
    bare.set_constraint()
    bare.calc = EMT()
    return Prediction(bare.get_potential_energy(), bare.get_forces())


def emt(batch: Sequence[Atoms]) -> list[Prediction]:
    return [emt_once(atoms) for atoms in batch]


def with_forces(change: Callable[[np.ndarray], np.ndarray], size: int, at: int) -> Predict:
    """EMT, but structures of ``size`` atoms get other forces from the call ``at`` on."""
    calls = itertools.count()

    def predict(batch):
        found = emt(batch)
        for i, atoms in enumerate(batch):
            if len(atoms) == size and next(calls) >= at:
                found[i] = Prediction(found[i].energy, change(found[i].forces))
        return found

    return predict


class ForgetfulEMT(Calculator):
    """`emt_once` as a calculator, for relaxing alone."""

    implemented_properties = ("energy", "free_energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        found = emt_once(atoms)
        self.results = {
            "energy": found.energy,
            "free_energy": found.energy,
            "forces": found.forces,
        }


def alone(atoms: Atoms, calculator: Calculator, settings: RelaxationSettings):
    """ASE's own relaxation: (atoms, optimizer, converged)."""
    atoms = atoms.copy()
    atoms.calc = calculator
    optimizer = settings.make_optimizer(atoms)
    converged = optimizer.run(fmax=settings.fmax, steps=settings.steps)
    return atoms, optimizer, converged


def predictor(folder: Path, precision: torch.dtype, kind: str = "direct") -> BatchPredictor:
    """A tiny EquiformerV2 with random weights."""
    path = write_checkpoint(folder / "tiny.pt", kind)
    return BatchPredictor(open_unit(path, "cpu", precision), "oc20")


def write_data(path: Path, count: int = 4, targets: bool = True, prefix: str = "s") -> Path:
    """IS2RE data in fairchem's ``ase_db`` form: sid, y_relaxed and pos_relaxed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with ase.db.connect(path) as database:
        for number, (_, atoms) in enumerate(surfaces(count)):
            data: dict = {"sid": f"{prefix}{number}"}
            if targets:
                data["y_relaxed"] = 0.5
                data["pos_relaxed"] = atoms.positions + np.array([0.03, 0.0, 0.0])
            database.write(atoms, data=data)
    return path


def data_config(path: Path, split: str = "id") -> dict:
    return {
        "root": str(path.parent),
        "reader": {"format": "ase_db"},
        "splits": {split: {"src": path.name}},
        "how_to_get": "Make some.",
    }
