"""Frames as people have them: labels under any name, several compositions, a trajectory."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator


def labelled(
    formula: str = "H2O",
    energy_key: str | None = None,
    forces_key: str | None = None,
    seed: int = 0,
    **info: object,
) -> Atoms:
    """A molecule with random labels, in a calculator or under the given names."""
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
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.info.update(info)
    return atoms
