"""One frame on its way into an ASE database: made of ASE atoms, checked, and named."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.db.row import atoms2dict
from ase.io.jsonio import encode

from eqv2_plugin.data.fixed_atoms import PARTLY_FIXED, partly_fixed, use_fix_atoms
from eqv2_plugin.data.labels import LABELS, READ_FROM, read_labels

OTHER_ENERGY = (
    "frames have a free_energy that differs from the label, their energy; forces are the "
    "derivative of the free energy (files of VASP itself are read with that)"
)
# eV: rounding of the two.
_SAME = 1e-4
# Per-atom arrays that an ASE database keeps.
_KEPT_ARRAYS = {
    "numbers", "positions", "tags", "momenta", "masses", "initial_magmoms", "initial_charges",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Frame:
    """One structure, as an ASE database stores it."""

    # numbers [n_atoms], positions [n_atoms, 3] (Å), cell [3, 3] (Å), pbc [3], and where there are
    # any tags, constraints (as ``todict`` gives them), energy (eV), forces [n_atoms, 3] (eV/Å).
    row: dict[str, Any]
    # ``atoms.info`` when fairchem reads the row: sid (str), and fid (int) if the frame is one of
    # several of its system.
    info: dict[str, Any]
    where: str  # file and frame, for errors

    @property
    def labels(self) -> tuple[str, ...]:
        """Those of ``LABELS`` that the frame has; all frames of a data set have the same."""
        return tuple(name for name in LABELS if name in self.row)


@dataclass(frozen=True)
class Source(ABC):
    """Files that yield frames. It is sent to worker processes, so it holds paths only."""

    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """What errors call it."""
        return str(self.files[0])

    @abstractmethod
    def frames(self, notes: Counter[str]) -> Iterator[Frame]:
        """Stream the frames; what the user should know is counted in ``notes``."""


def frame_of_atoms(atoms: Atoms, system: str, index: int, where: str, notes: Counter[str]) -> Frame:
    """The frame of ``atoms``: all that a database keeps, labels as they stand.

    Args:
        atoms: ids in ``info``; labels in the results of the calculator (eV, eV/Å, of fixed atoms
            too). Fixed atoms are held by ``FixAtoms`` in the frame.
        system, index: sid and fid of a frame that has none.
        where: for errors: labels that contradict each other, a fid that is no integer.
        notes: counts what is left out or made up.
    """
    results = {} if atoms.calc is None else atoms.calc.results
    labels = read_labels(atoms, where)
    for name in labels.doubles:
        notes[f"frames had info {name!r}, equal to the calculator's, which is left out"] += 1
    for name in labels.unread:
        notes[f"frames have {name!r}, which looks like a label and is not read: {READ_FROM}"] += 1
    free = results.get("free_energy")
    if free is not None and labels.energy is not None and abs(free - labels.energy) > _SAME:
        notes[OTHER_ENERGY] += 1
    if partly := partly_fixed(atoms):
        notes[PARTLY_FIXED] += partly
    # Not the calculator itself: ASE leaves results out whose atoms were changed.
    bare = atoms.copy()
    use_fix_atoms(bare)
    row = atoms2dict(bare) | {"cell": atoms.cell.array, "pbc": atoms.pbc}
    row |= {
        name: value
        for name, value in results.items()
        if name in all_properties and value is not None
    }
    for name in sorted(results.keys() - set(all_properties)):
        notes[f"frames had the result {name!r}, which is left out"] += 1
    info = dict(atoms.info)
    if "pos_relaxed" in atoms.arrays:  # a column in extxyz; in databases it is in `data`
        info["pos_relaxed"] = atoms.arrays["pos_relaxed"]
    for name in sorted(atoms.arrays.keys() - _KEPT_ARRAYS - info.keys()):
        notes[f"frames had the per-atom array {name!r}, which is left out"] += 1
    return Frame(row, _info(info, system, index, where, notes), where)


def _info(
    info: Mapping[str, Any], system: str, index: int, where: str, notes: Counter[str]
) -> dict[str, Any]:
    kept = {}
    for name, value in info.items():
        if name in LABELS:
            continue
        if _is_storable(name, value):
            kept[name] = value
        else:
            notes[f"frames had info {name!r}, which cannot be stored and is left out"] += 1
    if kept.get("sid") is None:
        notes["frames had no sid: named after their file, with their place in it as fid"] += 1
        kept = {**kept, "sid": system, "fid": kept.get("fid", index)}
    # fairchem loses sids that are no strings.
    kept["sid"] = str(kept["sid"])
    fid = kept.pop("fid", None)
    if fid is not None:
        try:
            kept["fid"] = int(fid)
        except (TypeError, ValueError):
            kept["fid"] = None
        if kept["fid"] != fid:
            raise ValueError(f"{where}: its fid {fid!r} is not an integer")
    return kept


def _is_storable(name: Any, value: Any) -> bool:
    if isinstance(value, (str, int, float, np.ndarray)) and isinstance(name, str):
        return not (isinstance(value, np.ndarray) and value.dtype == object)
    try:
        encode({name: value})
    except TypeError:
        return False
    return isinstance(name, str)


def frame_id(info: Mapping[str, Any]) -> str:
    """ "<sid>_<fid>", or the sid alone where there is no fid."""
    return f"{info['sid']}_{info['fid']}" if "fid" in info else info["sid"]


def id_key(info: Mapping[str, Any]) -> int:
    """64 bits that stand for the id: equal ids have equal keys, others hardly ever."""
    return int.from_bytes(hashlib.blake2b(frame_id(info).encode(), digest_size=8).digest(), "big")


def check_frame(frame: Frame) -> None:
    """A ValueError for a frame without atoms, or with numbers that are not finite."""
    if len(frame.row["numbers"]) == 0:
        raise ValueError(f"{frame.where}: there are no atoms in it")
    for name in ("positions", "cell", *frame.labels):
        if not np.isfinite(frame.row[name]).all():
            raise ValueError(
                f"{frame.where}: {name} has a value that is not finite. Remove the frame or "
                "download the file again"
            )
