"""Slabs from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ase import Atoms
from ase.io import read


def read_structure(path: Path) -> Atoms:
    """The last structure in a file that ASE reads.

    Raises:
        FileNotFoundError: no such file.
        ValueError: ASE cannot read it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        atoms = read(path)
    except Exception as error:  # each format of ASE has its own
        raise ValueError(f"{path} cannot be read as a structure: {error}") from error
    assert isinstance(atoms, Atoms)
    return atoms


def stems(paths: Sequence[Path]) -> list[str]:
    """A name for each slab: its file name without ending, or its folder's for a POSCAR."""
    fixed = {"POSCAR", "CONTCAR", "OUTCAR", "vasprun"}
    return [path.absolute().parent.name if path.stem in fixed else path.stem for path in paths]
