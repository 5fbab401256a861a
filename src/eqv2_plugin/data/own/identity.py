"""What tells a frame from others, and what it belongs together with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ase import Atoms

from eqv2_plugin.common.text import listed

# Å. Frames whose atoms are nearer than this to each other's are copies.
_ROUNDING = 1e-4


class Identified(Protocol):
    """What a split needs to know of a frame."""

    @property
    def where(self) -> str:
        """File and frame: "a.xyz, frame 3"."""

    @property
    def numbers(self) -> np.ndarray:
        """[atoms] atomic numbers."""

    @property
    def system(self) -> str | None:
        """``info["sid"]``, or what ``group_key`` names; None where not stored."""

    @property
    def digest(self) -> bytes:
        """Equal for copies of one structure."""


@dataclass(frozen=True)
class Identity:
    """An `Identified` that holds nothing else."""

    where: str
    numbers: np.ndarray
    system: str | None
    digest: bytes


def identify(atoms: Atoms, where: str, group_key: str | None = None) -> Identity:
    """Identity of a frame.

    Raises:
        ValueError: no atoms, positions or a cell that are not finite, or no ``group_key`` in
            ``atoms.info``.
    """
    if len(atoms) == 0:
        raise ValueError(f"{where}: there are no atoms in it")
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        raise ValueError(f"{where}: positions or cell are not finite: remove or fix the frame")
    if group_key is not None and group_key not in atoms.info:
        names = listed(sorted(map(str, atoms.info)), 8) or "nothing"
        raise ValueError(
            f"{where} has no {group_key!r} to group it by (group_key); it stores {names}"
        )
    system = atoms.info.get(group_key or "sid")
    return Identity(
        where, atoms.numbers.copy(), None if system is None else str(system), _digest(atoms)
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
