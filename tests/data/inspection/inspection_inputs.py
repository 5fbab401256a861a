"""Small data sets made from the embedded samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase_db_backends.aselmdb import LMDBDatabase

from eqv2_plugin.data.sample import load_sample


def oc20_frames(count: int = 40) -> list[Atoms]:
    """Real relaxation frames of two systems, in order."""
    return load_sample("oc20_sample", "val_ood")[:count]


def molecule_frames(count: int = 120) -> list[Atoms]:
    """Real frames of one molecule, in no order."""
    return load_sample("rmd17_ethanol", "train")[:count]


def relabelled(atoms: Atoms, energy=None, forces=None) -> Atoms:
    """The same atoms with exactly these labels; None leaves one out."""
    labels = {"energy": energy, "forces": forces}
    copy = atoms.copy()
    copy.info = dict(atoms.info)
    copy.calc = SinglePointCalculator(copy, **{k: v for k, v in labels.items() if v is not None})
    return copy


def write_dataset(folder: Path, frames: list[Atoms], natoms: np.ndarray | None = None) -> Path:
    """A folder as fairchem reads it; ``natoms`` replaces what metadata.npz should say."""
    folder.mkdir()
    with LMDBDatabase(folder / "part.aselmdb", use_lock_file=False) as database:
        for atoms in frames:
            database.write(atoms, data=atoms.info)
    sizes = np.array([len(atoms) for atoms in frames]) if natoms is None else natoms
    np.savez(folder / "metadata.npz", natoms=sizes)
    return folder
