"""One frame of a data set as plain arrays, exactly as it is stored."""

from __future__ import annotations

from dataclasses import dataclass, field
from numbers import Real

import numpy as np
from ase import Atoms
from fairchem.core.datasets.atomic_data import AtomicData

from eqv2_plugin.data.fixed_atoms import fixed_mask, partly_fixed
from eqv2_plugin.data.labels import LABELS, look_at_labels


@dataclass(frozen=True)
class Frame:
    """Attributes:
    index: in its data set.
    sid: system id; None where none is stored.
    fid: number of the frame in its system; None where none is stored.
    numbers: [atoms] atomic numbers.
    positions: [atoms, 3] Å.
    cell: [3, 3] Å, rows are vectors.
    pbc: [3] periodic directions.
    tags: [atoms].
    fixed: [atoms] held in all three directions.
    forces: [atoms, 3] eV/Å, raw also on fixed atoms; None without label.
    scalars: every number stored with the frame, the label "energy" (eV) among them.
    stress: [3, 3] eV/Å^3; None without label.
    partly_fixed: number of atoms held in one or two directions.
    conflicts: what `look_at_labels` found to contradict the labels.
    unread: names of what looks like a label and is not read.
    """

    index: int
    sid: str | None
    fid: str | None
    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    tags: np.ndarray
    fixed: np.ndarray
    forces: np.ndarray | None = None
    scalars: dict[str, float] = field(default_factory=dict)
    stress: np.ndarray | None = None
    partly_fixed: int = 0
    conflicts: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

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


def frame_of(atoms: Atoms, index: int = 0) -> Frame:
    """A frame from ASE's atoms with labels in a calculator and ids in ``atoms.info``.

    Raises:
        ValueError: labels that do not belong to the atoms.
    """
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


def frame_of_data(data: AtomicData, index: int = 0) -> Frame:
    """A frame from what training reads; labels in float32, sid and fid joined in the sid."""

    def array(name: str, *shape: int) -> np.ndarray | None:
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
