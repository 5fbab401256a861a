"""Structures of a request as fairchem 2's batch."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch


def atoms_of(arrays: dict[str, np.ndarray]) -> list[Atoms]:
    """From ``numbers``, ``positions`` [N, 3] Å, ``cells`` [B, 3, 3] and ``natoms`` [B]."""
    ends = np.cumsum(arrays["natoms"])[:-1]
    parts = zip(
        np.split(arrays["numbers"], ends),
        np.split(arrays["positions"], ends),
        arrays["cells"],
        strict=True,
    )
    return [Atoms(numbers, positions, cell=cell, pbc=True) for numbers, positions, cell in parts]


def arrays_of(structures: list[Atoms]) -> dict[str, np.ndarray]:
    """What `atoms_of` reads."""
    return {
        "numbers": np.concatenate([atoms.numbers for atoms in structures]),
        "positions": np.concatenate([atoms.positions for atoms in structures]),
        "cells": np.stack([atoms.cell.array for atoms in structures]),
        "natoms": np.array([len(atoms) for atoms in structures]),
    }


def fairchem_batch(arrays: dict[str, np.ndarray]) -> AtomicData:
    return atomicdata_list_to_batch(
        [AtomicData.from_ase(atoms, task_name="oc20") for atoms in atoms_of(arrays)]
    )
