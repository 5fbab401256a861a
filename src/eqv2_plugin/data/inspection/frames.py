"""Data sets opened for looking through: frame by frame as plain arrays, exactly as stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from fairchem.core.datasets.atomic_data import AtomicData

from eqv2_plugin.common.files import read_npz
from eqv2_plugin.data.fixed_atoms import fixed_mask, partly_fixed
from eqv2_plugin.data.inspection.neighbours import Nearest, nearest_neighbours
from eqv2_plugin.data.labels import LABELS, look_at_labels
from eqv2_plugin.data.structures import located, open_structures

# Suffixes of databases that fairchem's reader opens by their names.
ASE_SUFFIXES = (".aselmdb", ".db", ".json")
LMDB_SUFFIX = ".lmdb"


@dataclass(frozen=True)
class Frame:
    """One structure with its labels, as stored."""

    index: int  # in its data set
    sid: str | None  # system id; None where none is stored
    fid: str | None  # number of the frame in its system; None where none is stored
    numbers: np.ndarray  # [atoms] atomic numbers
    positions: np.ndarray  # [atoms, 3] Å
    cell: np.ndarray  # [3, 3] Å, rows are vectors
    pbc: np.ndarray  # [3] periodic directions
    tags: np.ndarray  # [atoms]
    fixed: np.ndarray  # [atoms] held in all three directions
    forces: np.ndarray | None = None  # [atoms, 3] eV/Å, raw also on fixed atoms; None without label
    # Every number stored with the frame, the label "energy" (eV) among them.
    scalars: dict[str, float] = field(default_factory=dict)
    stress: np.ndarray | None = None  # [3, 3] eV/Å^3; None without label
    partly_fixed: int = 0  # number of atoms held in one or two directions
    conflicts: tuple[str, ...] = ()  # what `look_at_labels` found to contradict the labels
    unread: tuple[str, ...] = ()  # names of what looks like a label and is not read

    @property
    def energy(self) -> float | None:
        return self.scalars.get("energy")

    @property
    def free_forces(self) -> np.ndarray | None:
        """[free atoms, 3] eV/Å."""
        return None if self.forces is None else self.forces[~self.fixed]

    @property
    def name(self) -> str:
        """What a person would search for."""
        if self.sid is None:
            return f"number {self.index} of the data set"
        return self.sid if self.fid is None else f"{self.sid}, frame {self.fid}"

    @cached_property
    def nearest(self) -> Nearest:
        """Nearest neighbours of the atoms."""
        return nearest_neighbours(self.numbers, self.positions, self.cell, self.pbc)

    def after(self, other: Frame | None) -> Frame | None:
        """The other frame if it is of the same system: same sid (both may lack it) and atoms."""
        if other is None or self.sid != other.sid:
            return None
        return other if np.array_equal(self.numbers, other.numbers) else None

    def displacement(self, before: Frame) -> np.ndarray:
        """Shortest way of every atom from an earlier frame to this one, [atoms, 3] Å."""
        return minimum_image(self.positions - before.positions, self.cell, self.pbc)


def minimum_image(steps: np.ndarray, cell: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """The shortest of all periodic images of ``steps``, [n, 3] Å, along the periodic directions.

    A cell that has no images (vectors that are missing, or in one plane) leaves them as they are.
    """
    vectors = np.where(pbc[:, None], cell, 0.0)
    if not np.isfinite(vectors).all() or np.linalg.matrix_rank(vectors) < pbc.sum():
        return steps
    return find_mic(steps, vectors, pbc)[0]


class FrameDataset:
    """Frames of one data set, in fairchem's order and with nothing added.

    fairchem's own items have tags of 1 where all are 0, wrapped positions and float32
    labels; whoever checks data must see what is there. ``natoms`` is metadata.npz's, or None.
    """

    def __init__(self, path: Path, form: str, name: str) -> None:
        self.name = name
        config = {"format": form, "src": str(path)}
        self.structures = open_structures(config, name, subset=False)
        self.natoms = _natoms(path)

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, index: int) -> Frame:
        return frame_of(self.structures.stored(index), index)


def open_dataset(source: str | Path) -> FrameDataset:
    """Open a folder (or file) of labelled frames.

    Args:
        source: what fairchem's ``ase_db`` reader opens (a folder of ``.aselmdb`` files, one
            ``.aselmdb``, ``.db`` or ``.json`` file), a folder of fairchem 1's ``.lmdb`` files
            or one such file, or "embedded:SAMPLE/SPLIT".

    Raises:
        FileNotFoundError: there is no such folder or sample.
        ValueError: it holds no data, or data that cannot be read.
    """
    name = str(source)
    path = Path(located(name, "the data set"))
    files = {file.suffix for file in ([path] if path.is_file() else path.iterdir())}
    if files.intersection(ASE_SUFFIXES):
        return FrameDataset(path, "ase_db", name)
    if LMDB_SUFFIX in files:
        return FrameDataset(path, "lmdb", name)
    known = (*ASE_SUFFIXES, LMDB_SUFFIX)
    inner = sorted({p.parent.name for s in known for p in path.glob(f"*/*{s}")})
    advice = f"; give its folders one by one: {', '.join(inner)}" if inner else ""
    raise ValueError(f"{name} holds no database ({', '.join(known)}){advice}")


def frame_of(atoms: Atoms, index: int = 0) -> Frame:
    """A frame from ASE's atoms with labels in a calculator and ids in ``atoms.info``."""
    labels = look_at_labels(atoms, f"sid {atoms.info.get('sid')}")
    scalars = {
        k: float(v) for k, v in atoms.info.items() if isinstance(v, Real) and k not in LABELS
    }
    if labels.energy is not None:
        scalars["energy"] = labels.energy
    sid, fid = atoms.info.get("sid"), atoms.info.get("fid")
    return Frame(
        index=index,
        sid=None if sid is None else str(sid),
        fid=None if fid is None else str(fid),
        numbers=atoms.numbers.astype(np.int64),
        positions=atoms.positions.astype(np.float64),
        cell=np.asarray(atoms.cell.array, np.float64),
        pbc=np.asarray(atoms.pbc, bool),
        tags=atoms.get_tags(),
        fixed=fixed_mask(atoms),
        forces=labels.forces,
        scalars=scalars,
        stress=labels.stress,
        partly_fixed=partly_fixed(atoms),
        conflicts=labels.conflicts,
        unread=labels.unread,
    )


def frame_of_data(
    data: AtomicData, index: int = 0, names: Mapping[str, str] | None = None
) -> Frame:
    """A frame from what training reads; labels in float32, sid and fid joined in the sid.

    Args:
        names: under which labels are stored, {"forces": "dft_forces"}; by default their own.
    """

    def array(label: str, *shape: int) -> np.ndarray | None:
        name = (names or {}).get(label, label)
        return data[name].numpy().astype(np.float64).reshape(shape) if name in data else None

    energy = array("energy", 1)
    return Frame(
        index=index,
        sid=data.sid[0],
        fid=None,
        numbers=data.atomic_numbers.numpy(),
        positions=data.pos.numpy().astype(np.float64),
        cell=data.cell.numpy().astype(np.float64)[0],
        pbc=data.pbc.numpy()[0],
        tags=data.tags.numpy(),
        fixed=data.fixed.numpy() != 0,
        forces=array("forces", -1, 3),
        scalars={} if energy is None else {"energy": float(energy[0])},
        stress=array("stress", 3, 3),
    )


def _natoms(path: Path) -> np.ndarray | None:
    file = (path if path.is_dir() else path.parent) / "metadata.npz"
    if not file.exists():
        return None
    try:
        return read_npz(file)["natoms"]
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{file} cannot be read ({error}): it must hold the array natoms; make it again"
        ) from error
