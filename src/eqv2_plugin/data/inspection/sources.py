"""Data sets opened for looking through: frame by frame, as stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from eqv2_plugin.common.files import read_npz
from eqv2_plugin.data.ase_dataset import CheckedAseDB
from eqv2_plugin.data.datasets import EMBEDDED
from eqv2_plugin.data.inspection.frames import Frame, frame_of
from eqv2_plugin.data.lmdb.shards import open_lmdb
from eqv2_plugin.data.sample import sample_directory

# Suffixes of databases that fairchem's reader opens by their names.
ASE_SUFFIXES = (".aselmdb", ".db", ".json")
LMDB_SUFFIX = ".lmdb"


class FrameDataset(Dataset, ABC):
    """Frames of one folder, in fairchem's order and with nothing added.

    fairchem's own items have tags of 1 where all are 0, wrapped positions and float32
    labels; whoever checks data must see what is there.

    Attributes:
        name: as the user gave it.
        natoms: [frames] of ``metadata.npz``, None without that file.
    """

    name: str
    natoms: np.ndarray | None

    @abstractmethod
    def __len__(self) -> int:
        """How many frames."""

    @abstractmethod
    def __getitem__(self, index: int) -> Frame:
        """One frame."""


class AseDBFrames(FrameDataset):
    """Frames of ASE databases, through fairchem's reader.

    Raises:
        ValueError: a database that cannot be opened, or no frames.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        files = _files(path, ASE_SUFFIXES)
        for file in files:
            if file.suffix == ".aselmdb":
                # fairchem would open a file that was cut off, and be killed (SIGBUS) reading it.
                open_lmdb(str(file)).close()
        try:
            self.reader = CheckedAseDB({"src": str(path)})
        except Exception as error:
            raise ValueError(
                f"cannot read {name}: {error}. If a file is damaged, make it anew"
            ) from error
        if len(self.reader.dbs) < len(files):
            raise ValueError(
                f"only {len(self.reader.dbs)} of the {len(files)} database files in {name} can be "
                "opened"
            )
        self.natoms = _natoms(path)

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> Frame:
        try:
            atoms = self.reader.stored_atoms(index)
            # fairchem makes up this sid where none is stored.
            if type(atoms.info["sid"]) is int and atoms.info["sid"] == index:
                del atoms.info["sid"]
            return frame_of(atoms, index)
        except Exception as error:
            raise ValueError(f"{self.name}: frame {index} cannot be read: {error}") from error


class LmdbFrames(FrameDataset):
    """Frames of fairchem 1's LMDB files.

    Raises:
        ValueError: a file that cannot be read, or no frames.
    """

    def __init__(self, path: Path, name: str) -> None:
        from eqv2_plugin.data.lmdb.dataset import LmdbDataset

        self.name = name
        self.reader = LmdbDataset({"src": str(path)})
        self.natoms = _natoms(path)

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> Frame:
        record = self.reader.record(index)
        forces = record.vectors.get("forces")
        return Frame(
            index=index,
            sid=record.sid,
            fid=None if record.fid is None else str(record.fid),
            numbers=record.numbers.astype(np.int64),
            positions=record.positions.astype(np.float64),
            cell=record.cell.astype(np.float64),
            pbc=record.pbc,
            tags=record.tags,
            fixed=record.fixed.astype(bool),
            forces=None if forces is None else forces.astype(np.float64),
            scalars={**record.energies, **record.counts},
        )


def open_dataset(source: str | Path) -> FrameDataset:
    """Open a folder (or file) of labelled frames.

    Args:
        source: what fairchem's ``ase_db`` reader opens (a folder of ``.aselmdb`` files, one
            ``.aselmdb``, ``.db`` or ``.json`` file), a folder of fairchem 1's ``.lmdb`` files
            or one such file, or "embedded:SAMPLE/SPLIT", for example
            "embedded:oc20_sample/train".

    Raises:
        FileNotFoundError: there is no such folder or sample.
        ValueError: it holds no data, or data that cannot be read.
    """
    name = str(source)
    if name.startswith(EMBEDDED):
        sample, _, split = name.removeprefix(EMBEDDED).partition("/")
        try:
            return AseDBFrames(sample_directory(sample, split), name)
        except ValueError as error:
            raise FileNotFoundError(f"{name}: {error}") from error
    path = Path(name).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"there is no folder {path}")
    if _files(path, ASE_SUFFIXES):
        return AseDBFrames(path, name)
    if _files(path, (LMDB_SUFFIX,)):
        return LmdbFrames(path, name)
    known = (*ASE_SUFFIXES, LMDB_SUFFIX)
    inner = sorted({p.parent.name for s in known for p in path.glob(f"*/*{s}")})
    advice = f"; give its folders one by one: {', '.join(inner)}" if inner else ""
    raise ValueError(f"{name} holds no database ({', '.join(known)}){advice}")


def _files(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    found = [path] if path.is_file() else sorted(path.iterdir())
    return [p for p in found if p.suffix in suffixes]


def _natoms(path: Path) -> np.ndarray | None:
    file = (path if path.is_dir() else path.parent) / "metadata.npz"
    if not file.exists():
        return None
    try:
        return read_npz(file)["natoms"]
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{file} cannot be read ({error}): it must hold the array natoms; make it anew"
        ) from error
