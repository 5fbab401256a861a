"""Frames of an ``.npz`` file with a row per atom."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms


def read_frames(path: Path, name: str, further: tuple[str, ...] = ()) -> list[Atoms]:
    """Frames with energies (eV) and forces (eV/Å); ``info["sid"]`` is the array ``name``.

    Args:
        further: arrays with an entry per frame that are kept in ``info``, too.

    Raises:
        ValueError: there is no such file.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: give --data FOLDER with {path.name}")
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    ends = np.cumsum(arrays["natoms"])
    frames = []
    for i, (start, end) in enumerate(zip(ends - arrays["natoms"], ends, strict=True)):
        atoms = Atoms(
            arrays["numbers"][start:end],
            arrays["pos"][start:end].astype(float),
            cell=arrays["cell"][i],
            pbc=arrays["pbc"][i],
            info={"sid": str(arrays[name][i]), **{key: str(arrays[key][i]) for key in further}},
        )
        if "fixed" in arrays and arrays["fixed"][start:end].any():
            atoms.set_constraint(FixAtoms(mask=arrays["fixed"][start:end].astype(bool)))
        energy, forces = float(arrays["energy"][i]), arrays["forces"][start:end].astype(float)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        frames.append(atoms)
    return frames
