"""Frames as people have them: labels under any name, several compositions, a trajectory."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress


def labelled(
    formula: str = "H2O",
    energy_key: str | None = None,
    forces_key: str | None = None,
    seed: int = 0,
    stress_key: str | None = None,
    cell: float | None = None,
    **info: object,
) -> Atoms:
    """A molecule, or with a cell (Å) a crystal, with random labels, in a calculator or under the
    given names; ``stress_key`` may be "stress"."""
    rng = np.random.default_rng(seed)
    atoms = Atoms(formula, rng.uniform(-2, 2, (len(Atoms(formula)), 3)) + np.arange(3))
    atoms.positions += 1.5 * np.arange(len(atoms))[:, None]
    energy = -5.0 * len(atoms) + rng.normal()
    forces = rng.normal(size=(len(atoms), 3))
    results = {}
    if energy_key is None:
        results["energy"] = energy
    else:
        atoms.info[energy_key] = energy
    if forces_key is None:
        results["forces"] = forces
    else:
        atoms.arrays[forces_key] = forces
    if cell is not None:
        atoms.set_cell([cell] * 3)
        atoms.pbc = True
    if stress_key is not None:
        # A tenth of the forces' scale, as in bonds of a crystal.
        stress = rng.normal(scale=0.02, size=(3, 3))
        stress += stress.T
        if stress_key == "stress":
            results["stress"] = full_3x3_to_voigt_6_stress(stress)
        else:
            atoms.info[stress_key] = stress
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info.update(info)
    return atoms
