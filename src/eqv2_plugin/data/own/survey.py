"""One pass over files of frames: what they hold, which labels count, how they can be parted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from tqdm import tqdm

from eqv2_plugin.common.text import listed
from eqv2_plugin.data.conversion.sources import FileSource
from eqv2_plugin.data.fixed_atoms import fixed_mask
from eqv2_plugin.data.labels import read_labels
from eqv2_plugin.data.own.keys import KeyCount, LabelKeys

# Å. Frames whose atoms are nearer than this to each other's are copies.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Note:
    """What is remembered of one labelled frame."""

    source: int  # which file, by its place among the sources
    index: int  # of the frame in its file
    where: str  # file and frame, for errors
    numbers: np.ndarray  # [atoms] atomic numbers
    energy: float  # eV
    square: float  # sum of squared force components of free atoms, (eV/Å)^2
    free: int  # number of free atoms
    periodic: bool  # along all three directions
    system: str | None  # ``info["sid"]``, or what ``group_key`` names; None where not stored
    digest: bytes  # equal for copies of one structure


@dataclass(frozen=True)
class Survey:
    """What some files hold."""

    keys: LabelKeys  # names of the labels
    notes: list[Note]  # of every labelled frame, in the order of the files
    unlabelled: int  # number of frames without these labels, which are left out


def survey(
    sources: Sequence[FileSource],
    energy_key: str | None = None,
    forces_key: str | None = None,
    group_key: str | None = None,
) -> Survey:
    """Read all frames of some files.

    Args:
        energy_key, forces_key: names of the labels; None finds them (`KeyCount.choose`).
        group_key: name in ``atoms.info`` of what belongs together.

    Raises:
        ValueError: a file is damaged; no labels, ambiguous ones, or ones that contradict each
            other; a label that is not finite; a frame without ``group_key``.
    """
    count = KeyCount()
    for atoms in _frames(sources, "looking for labels"):
        count.add(atoms)
    if not count.frames:
        raise ValueError(f"{listed([s.name for s in sources])} hold no frame")
    keys = count.choose(energy_key, forces_key)
    notes, frames = [], 0
    for number, source in enumerate(sources):
        for index, (where, atoms) in enumerate(source.stored()):
            frames += 1
            _refuse_two_numbers(atoms, keys, where)
            labelled = keys.labelled(atoms)
            if labelled is not None:
                notes.append(_note(labelled, number, index, where, group_key))
    if not notes:
        raise ValueError(f"no frame stores both {keys.energy!r} and {keys.forces!r}")
    return Survey(keys, notes, frames - len(notes))


def _frames(sources: Sequence[FileSource], title: str):
    with tqdm(unit=" frames", desc=title, leave=False) as bar:
        for source in sources:
            for _, atoms in source.stored():
                bar.update()
                yield atoms


def _refuse_two_numbers(atoms: Atoms, keys: LabelKeys, where: str) -> None:
    """A label that calculator and ``info`` both hold must be the same, as for all other readers."""
    both = atoms.copy()
    both.calc = atoms.calc
    results = {} if atoms.calc is None else atoms.calc.results
    both.info = {
        name: atoms.info.get(name)
        for name in (keys.energy, keys.forces)
        if results.get(name) is not None
    }
    read_labels(both, where)


def _note(atoms: Atoms, source: int, index: int, where: str, group_key: str | None) -> Note:
    if len(atoms) == 0:
        raise ValueError(f"{where}: there are no atoms in it")
    results = atoms.calc.results
    energy, forces = results["energy"], np.asarray(results["forces"], np.float64)
    for label, value in (("energy", energy), ("forces", forces), ("positions", atoms.positions)):
        if not np.isfinite(value).all():
            raise ValueError(f"{where}: {label} are not finite: remove or fix the frame")
    if group_key is not None and group_key not in atoms.info:
        names = listed(sorted(map(str, atoms.info)), 8) or "nothing"
        raise ValueError(
            f"{where} has no {group_key!r} to group it by (group_key); it stores {names}"
        )
    system = atoms.info.get(group_key or "sid")
    free = ~fixed_mask(atoms)
    return Note(
        source=source,
        index=index,
        where=where,
        numbers=atoms.numbers.copy(),
        energy=energy,
        square=float((forces[free] ** 2).sum()),
        free=int(free.sum()),
        periodic=bool(atoms.pbc.all()),
        system=None if system is None else str(system),
        digest=_digest(atoms),
    )


def _digest(atoms: Atoms) -> bytes:
    parts = (
        atoms.numbers.astype(np.int64),
        *(
            np.round(values / _ROUNDING).astype(np.int64)
            for values in (atoms.positions, atoms.cell.array)
        ),
    )
    return hashlib.blake2b(b"".join(p.tobytes() for p in parts), digest_size=16).digest()
