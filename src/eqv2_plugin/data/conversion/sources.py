"""Data files of other kinds: extxyz, trajectories, ASE databases, LMDBs of fairchem 1, VASP's."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import count
from pathlib import Path

import ase.io
from ase import Atoms
from ase.db import connect
from ase.io.trajectory import Trajectory

from eqv2_plugin.common.text import warn_once
from eqv2_plugin.data.conversion.extxyz import cut_frames, read_lines
from eqv2_plugin.data.conversion.frame import Frame, Source, frame_of_atoms
from eqv2_plugin.data.conversion.vasp import FREE_ENERGY, VASP_KINDS, vasp_kind

_SID = re.compile(rb'(?:^|\s)sid=(?:"([^"]*)"|(\S+))')


@dataclass(frozen=True)
class FileSource(Source):
    """One file with frames of any kind in ``READERS``."""

    system: str  # what frames without sid are named after

    def frames(self, notes: Counter[str]) -> Iterator[Frame]:
        """Stream the frames; what cannot be kept is counted in ``notes``."""
        for index, (where, atoms) in enumerate(self.stored()):
            if self.energy_note is not None:
                notes[self.energy_note] += 1
            yield frame_of_atoms(atoms, self.system, index, where, notes)

    def stored(self) -> Iterator[tuple[str, Atoms]]:
        """File and number of each frame, for errors, and the frame as its reader gives it."""
        (path,) = self.files
        frames = READERS.get(_kind(path), _read_by_ase)(path)
        for index in count():
            where = f"{path}, frame {index}"
            try:
                atoms = next(frames, None)
            except Exception as error:  # each reader has errors of its own
                raise ValueError(f"{where} cannot be read: {error}") from error
            if atoms is None:
                return
            yield where, atoms

    @property
    def energy_note(self) -> str | None:
        """Which energy is read, where a file holds several."""
        return None if vasp_kind(self.files[0]) is None else FREE_ENERGY


def find_sources(paths: Sequence[Path], others: bool = False) -> list[FileSource]:
    """The files given, and of each folder given its files of a known kind, by name.

    ``others`` takes files of other kinds, too (CIF, POSCAR, ...), if they are given by name and ASE
    reads them.

    Raises:
        ValueError: a file is of no known kind, given twice, or part of an OC20 download; a folder
            with files of VASP that may hold the same frames.
    """
    known = ", ".join(READERS)
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if _kind(p) in READERS and p.is_file())
            if not files:
                below = [p for p in sorted(path.glob("*/*")) if _kind(p) in READERS and p.is_file()]
                hint = f"; there are some below: '{path}/*/{below[0].name}'" if below else ""
                raise FileNotFoundError(f"no file of a known kind ({known}) in {path}{hint}")
            found += _of_one_run(files)
        elif not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        elif _kind(path) not in READERS and not others:
            raise ValueError(f"{path} is of no known kind; known are {known}")
        else:
            found.append(path)
    for path, times in Counter(p.resolve() for p in found).items():
        if times > 1:
            raise ValueError(f"{path} is given {times} times: give it once")
        if _is_part_of_download(path):
            raise ValueError(
                f"{path} has its ids and reference energies in the .txt file beside it: use eqv2 "
                "data oc20"
            )
    return [FileSource((path,), name) for path, name in zip(found, _systems(found), strict=True)]


def _of_one_run(files: list[Path]) -> list[Path]:
    """The files of a folder without those of VASP that repeat others."""
    by_kind: dict[str, list[Path]] = {}
    for file in files:
        if kind := vasp_kind(file):
            by_kind.setdefault(kind, []).append(file)
    learned = by_kind.get("ML_AB", [])
    if len(learned) > 1 or (learned and len(by_kind) > 1):
        names = " and ".join(f.name for found in by_kind.values() for f in found)
        raise ValueError(
            f"{files[0].parent} holds {names}, which may hold the same frames: give the one that "
            "you mean instead of the folder"
        )
    if len(by_kind) < 2:
        return files
    warn_once(f"{files[0].parent}: OUTCAR is of the same run as vasprun.xml, which is read")
    return [file for file in files if file not in by_kind["OUTCAR"]]


def _systems(paths: Sequence[Path]) -> list[str]:
    """Names of files without suffix, with those of the folders above until all differ."""
    parts = []
    for path in paths:
        plain = vasp_kind(path) is None
        stem = path.name.removesuffix(_kind(path)) if plain else path.name
        parts.append(((*path.absolute().parts[1:-1], stem), 1 if plain else 2))
    names = ["-".join(own[-depth:]) for own, depth in parts]
    deepest = max((len(own) for own, _ in parts), default=0)
    for more in range(1, deepest):
        counts = Counter(names)
        names = [
            name if counts[name] == 1 else "-".join(own[-depth - more :])
            for name, (own, depth) in zip(names, parts, strict=True)
        ]
    return names


def _kind(path: Path) -> str:
    """The suffix, with that of a packed file: ".traj", ".extxyz.xz"; of VASP's the usual name."""
    if kind := vasp_kind(path):
        return kind
    suffixes = path.suffixes
    return "".join(suffixes[-2:] if suffixes[-1:] == [".xz"] else suffixes[-1:])


def _is_part_of_download(path: Path) -> bool:
    return "xyz" in _kind(path) and any(
        path.with_name(f"{path.name.removesuffix(_kind(path))}.txt{packed}").exists()
        for packed in ("", ".xz")
    )


def _read_extxyz(path: Path) -> Iterator[Atoms]:
    # ASE reads a whole file into memory, so it gets one frame at a time.
    for number_of_atoms, header, block in cut_frames(read_lines(path)):
        text = f"{number_of_atoms}\n{(header + block).decode()}"
        atoms = ase.io.read(StringIO(text), format="extxyz")
        if sid := _SID.search(header):  # a text, also where it is made of digits
            atoms.info["sid"] = (sid[1] if sid[1] is not None else sid[2]).decode()
        yield atoms


def _read_by_ase(path: Path) -> Iterator[Atoms]:
    for atoms in ase.io.iread(path, index=":"):
        # Occupancies and symmetry of a CIF, which ASE's pictures and databases stumble over.
        atoms.info.clear()
        atoms.arrays.pop("spacegroup_kinds", None)
        yield atoms


def _read_trajectory(path: Path) -> Iterator[Atoms]:
    with Trajectory(path) as trajectory:
        yield from trajectory


def _read_database(path: Path) -> Iterator[Atoms]:
    options = {"readonly": True} if path.suffix == ".aselmdb" else {}
    database = connect(path, use_lock_file=False, **options)
    for row in database.select():
        atoms = row.toatoms()
        atoms.info |= {**row.key_value_pairs, **row.data}
        yield atoms


def _read_lmdb(path: Path) -> Iterator[Atoms]:
    # Imports torch, which the other kinds do not need.
    from eqv2_plugin.data.lmdb import lmdb_frames

    yield from lmdb_frames(path)


# Suffix of a file: its reader.
READERS: dict[str, Callable[[Path], Iterator[Atoms]]] = {
    ".extxyz": _read_extxyz,
    ".extxyz.xz": _read_extxyz,
    ".xyz": _read_extxyz,
    ".xyz.xz": _read_extxyz,
    ".traj": _read_trajectory,
    ".db": _read_database,
    ".aselmdb": _read_database,
    ".lmdb": _read_lmdb,
    **VASP_KINDS,
}
