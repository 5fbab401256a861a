"""Small data sets made from the embedded samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from eqv2_plugin.data.sample import load_sample, write_ase_db


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
    write_ase_db(frames, folder)
    if natoms is not None:
        np.savez(folder / "metadata.npz", natoms=natoms)
    return folder
