"""Structures as extxyz that reads back alike: to the last bit, with tags and fixed atoms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian
from ase.io.extxyz import key_val_dict_to_str, per_atom_properties, per_config_properties
from ase.stress import voigt_6_to_full_3x3_stress
from tqdm import tqdm

from eqv2_plugin.common.files import atomic_write
from eqv2_plugin.data.conversion.sources import FileSource
from eqv2_plugin.data.fixed_atoms import held_along_axes, partly_fixed
from eqv2_plugin.data.labels import drop_info_labels, read_labels

SUFFIXES = (".extxyz", ".xyz")
LOST_CONSTRAINTS = "atoms are held in directions that extxyz cannot hold; they are written as free"
# Kinds of numpy arrays: letters of columns.
_LETTERS = {"f": "R", "i": "I", "u": "I", "b": "L", "U": "S", "S": "S"}


def write_extxyz(sources: Sequence[FileSource], path: Path, notes: Counter[str]) -> int:
    """Write the frames of all sources into one file, which appears when it is whole.

    Args:
        notes: counts what the user should know.

    Returns:
        The number of frames.

    Raises:
        FileExistsError: there is such a file.
        ValueError: a source is damaged, or a frame has labels that contradict each other.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists: give another --out, or remove it")
    frames = 0
    with atomic_write(path) as building, building.open("w", encoding="utf-8") as file:
        for source in tqdm(sources, unit=" files", disable=len(sources) < 2):
            for where, atoms in source.stored():
                file.write(extxyz_text(atoms, where, notes))
                frames += 1
                if source.energy_note is not None:
                    notes[source.energy_note] += 1
    return frames


def extxyz_text(atoms: Atoms, where: str, notes: Counter[str]) -> str:
    """One frame: all results, ``info`` and per-atom arrays, numbers with all their digits.

    Fixed atoms are ``move_mask``; ``pos_relaxed`` of ``info`` becomes a column.

    Raises:
        ValueError: labels that contradict each other, or a text that does not fit into a line.
    """
    read_labels(atoms, where)
    whole = atoms.copy()
    drop_info_labels(whole.info)
    _keep_results(atoms, whole, notes)
    relaxed = whole.info.pop("pos_relaxed", None)
    if relaxed is not None:
        whole.set_array("pos_relaxed", np.reshape(np.asarray(relaxed, float), (-1, 3)))
    columns = {"species": np.array(whole.get_chemical_symbols()), "pos": whole.positions}
    mask = _move_mask(atoms, notes)
    if not mask.all():
        columns["move_mask"] = mask
    for name, array in whole.arrays.items():
        if name not in ("numbers", "positions"):
            columns[name] = array
    header = {"pbc": whole.pbc}
    if "stress" in whole.info:
        header["stress"] = _full(whole.info.pop("stress"))
    properties, cells = [], []
    for name, array in columns.items():
        flat = array.reshape(len(whole), -1)
        letter = _LETTERS.get(array.dtype.kind)
        if letter is None:
            notes[f"frames had the per-atom array {name!r}, which is left out"] += 1
            continue
        properties.append(f"{name}:{letter}:{flat.shape[1]}")
        cells += [_cells(flat[:, i], letter) for i in range(flat.shape[1])]
    lattice = " ".join(repr(float(x)) for x in whole.cell.array.ravel())
    head = f'Lattice="{lattice}" ' if whole.cell.any() else ""
    head += f"Properties={':'.join(properties)} {key_val_dict_to_str({**header, **whole.info})}"
    if "\n" in head:
        raise ValueError(f"{where}: a text in its atoms.info has several lines: shorten it")
    rows = "".join(f"{' '.join(row)}\n" for row in zip(*cells, strict=True))
    return f"{len(whole)}\n{head}\n{rows}"


def _keep_results(atoms: Atoms, whole: Atoms, notes: Counter[str]) -> None:
    """The calculator's results among ``info`` and arrays, where ASE's reader looks for them."""
    found = {} if atoms.calc is None else atoms.calc.results
    for name, value in found.items():
        if value is None:
            continue
        if name in per_config_properties:
            whole.info[name] = value
        elif name in per_atom_properties:
            whole.set_array(name, np.asarray(value))
        else:
            notes[f"frames had the result {name!r}, which is left out"] += 1


def _move_mask(atoms: Atoms, notes: Counter[str]) -> np.ndarray:
    """[atoms] or [atoms, 3], False where an atom is held, as ASE reads it."""
    held = held_along_axes(atoms)
    partly = held.any(1) & ~held.all(1)
    if lost := partly_fixed(atoms) - int(partly.sum()):
        notes[LOST_CONSTRAINTS] += lost
    others = [c for c in atoms.constraints if not isinstance(c, (FixAtoms, FixCartesian))]
    if others and not lost:
        notes[f"frames had the constraint {type(others[0]).__name__}, kept as far as it fixes"] += 1
    return ~held if partly.any() else ~held[:, 0]


def _full(stress: Any) -> np.ndarray:
    array = np.asarray(stress, float)
    return voigt_6_to_full_3x3_stress(array) if array.size == 6 else array.reshape(3, 3)


def _cells(values: np.ndarray, letter: str) -> Iterable[str]:
    if letter == "L":
        return ["T" if value else "F" for value in values]
    return [str(value) for value in values.tolist()]
