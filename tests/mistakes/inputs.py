"""The files that mistakes are made with: small, and in the folder where the commands run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from finetuning_inputs import write_start


def write_inputs() -> None:
    """Into the working directory."""
    frames = clusters(40)
    write("mine.extxyz", frames)
    write("one.extxyz", frames[:1])
    write("unlabelled.extxyz", [atoms.copy() for atoms in frames])
    strange = [atoms.copy() for atoms in frames]
    for atoms, labelled in zip(strange, frames, strict=True):
        atoms.info["enthalpy"] = labelled.get_potential_energy()
    write("strange.extxyz", strange)
    broken = clusters(40)
    forces = broken[7].get_forces().copy()
    forces[0, 0] = np.nan
    broken[7].calc = SinglePointCalculator(broken[7], energy=1.0, forces=forces)
    write("nan.extxyz", broken)
    Path("words.extxyz").write_text("these are no atoms\n")
    Path("empty.extxyz").write_text("")
    Path("data").mkdir()
    write_start(Path("model.pt"))
    whole = Path("model.pt").read_bytes()
    Path("cut.pt").write_bytes(whole[: len(whole) // 2])
    shutil.copy("words.extxyz", "words.pt")


def clusters(count: int) -> list[Atoms]:
    """Dimers and trimers of metals, labelled by EMT."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        atoms = Atoms(["Cu2", "CuAg", "Ag2", "Cu2Ag", "CuAu", "Au2"][i % 6])
        atoms.positions = 2.6 * np.arange(len(atoms))[:, None] * np.eye(3)[i % 3]
        atoms.positions += 0.2 * rng.normal(size=(len(atoms), 3))
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        made.append(atoms)
    return made
