"""The records of LMDB data sets as ASE atoms."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from eqv2_plugin.data.lmdb.records import Record, read_record
from eqv2_plugin.data.lmdb.shards import Shards


def lmdb_frames(source: str | os.PathLike[str]) -> Iterator[Atoms]:
    """Every record of one LMDB file or a folder of ``*.lmdb``, in order, one at a time.

    Atoms carry positions and cell (Å, as stored: atoms may lie outside the cell), pbc, tags,
    ``FixAtoms`` for fixed ones, and a single-point calculator with what is stored of energy
    (eV, float64) and raw forces (eV/Å; of fixed atoms as well). ``atoms.info`` has ``sid``
    (str) and ``fid`` (int), and of ``y_init``, ``y_relaxed`` (eV), ``pos_relaxed`` (Å, [n, 3]),
    ``nads`` and ``oc22`` what is stored.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: a file or record that cannot be read; file and key are named.
    """
    # Not in the generator, so that a wrong path shows at the call.
    return _frames(Shards.at(source))


def _frames(shards: Shards) -> Iterator[Atoms]:
    for row in range(len(shards)):
        pickled = shards.read(row)
        try:
            record = read_record(pickled)
        except ValueError as error:
            raise ValueError(f"{shards.describe(row)}: {error}") from error
        yield to_ase(record)


def to_ase(record: Record) -> Atoms:
    """The record with its labels as results of a calculator, and everything else in ``info``."""
    info: dict[str, object] = {}
    if record.sid is not None:
        info["sid"] = record.sid
    if record.fid is not None:
        info["fid"] = record.fid
    labels: dict[str, object] = dict(record.energies)
    labels |= {name: vectors.astype(np.float64) for name, vectors in record.vectors.items()}
    results = {name: labels.pop(name) for name in ("energy", "forces") if name in labels}
    atoms = Atoms(
        numbers=record.numbers,
        positions=record.positions.astype(np.float64),
        cell=record.cell.astype(np.float64),
        pbc=record.pbc,
        tags=record.tags,
        constraint=FixAtoms(mask=record.fixed.astype(bool)),
        info={**info, **labels, **record.counts},
    )
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms
