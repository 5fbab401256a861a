"""Frames written as others have them: OC20's download, and LMDBs of fairchem-core 1."""

from __future__ import annotations

import lzma
import pickle
from pathlib import Path

import ase.io
import lmdb
import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

_DATA = b"ctorch_geometric.data.data\nData\n)\x81"


def write_raw(folder: Path, frames: list[Atoms], packed: bool) -> None:
    """One pair of files, with total energies and the references beside."""
    folder.mkdir(parents=True)
    totals, lines = [], []
    for atoms in frames:
        total = atoms.copy()
        total.info = {}
        results = dict(atoms.calc.results)
        results["energy"] += atoms.info["ref_energy"]
        total.calc = SinglePointCalculator(total, **results)
        totals.append(total)
        info = atoms.info
        lines.append(f"{info['sid']},frame{info['fid']},{info['ref_energy']!r}\n")
    columns = ["symbols", "positions", "move_mask", "tags", "forces"]
    ase.io.write(folder / "0.extxyz", totals, columns=columns)
    (folder / "0.txt").write_text("".join(lines))
    if packed:
        for path in (folder / "0.extxyz", folder / "0.txt"):
            path.with_name(f"{path.name}.xz").write_bytes(lzma.compress(path.read_bytes()))
            path.unlink()


def write_lmdb_of(path: Path, frames: list[Atoms]) -> None:
    """As fairchem-core 1's preprocessing wrote it: float32, numbers as sid and fid."""
    path.parent.mkdir(parents=True)
    opened = lmdb.open(str(path), subdir=False, map_size=1 << 30, lock=False)
    with opened as environment, environment.begin(write=True) as transaction:
        for i, atoms in enumerate(frames):
            transaction.put(str(i).encode(), _record(atoms))
        transaction.put(b"length", pickle.dumps(len(frames)))


def _record(atoms: Atoms) -> bytes:
    fixed = np.zeros(len(atoms), np.float32)
    for constraint in atoms.constraints:
        fixed[constraint.index] = 1
    attributes = {
        "pos": torch.from_numpy(atoms.positions.astype(np.float32)),
        "cell": torch.from_numpy(atoms.cell.array.astype(np.float32))[None],
        "atomic_numbers": torch.from_numpy(atoms.numbers.astype(np.float32)),
        "natoms": len(atoms),
        "tags": torch.from_numpy(atoms.get_tags()),
        "fixed": torch.from_numpy(fixed),
        "sid": int(atoms.info["sid"].removeprefix("random")),
        "fid": atoms.info["fid"],
        "y": atoms.calc.results["energy"],
        "force": torch.from_numpy(atoms.calc.results["forces"].astype(np.float32)),
    }
    return b"\x80\x04" + _DATA + pickle.dumps(attributes, 4)[2:-1] + b"b."
