"""One frame on its way into an ASE database, and what must hold for every frame."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from eqv2_plugin.data.labels import LABELS


@dataclass(frozen=True, slots=True)
class Frame:
    """One structure, as an ASE database stores it.

    Attributes:
        row: entries of the row: ``numbers`` ``[n_atoms]``, ``positions`` ``[n_atoms, 3]`` (Å),
            ``cell`` ``[3, 3]`` (Å), ``pbc`` ``[3]``, and where there are any ``tags``,
            ``constraints`` (as ``todict`` gives them), ``energy`` (eV) and ``forces``
            ``[n_atoms, 3]`` (eV/Å).
        info: becomes ``atoms.info`` when fairchem reads the row. Has ``sid`` (str), and ``fid``
            (int) if the frame is one of several of its system.
        where: file and frame, for errors.
    """

    row: dict[str, Any]
    info: dict[str, Any]
    where: str

    @property
    def labels(self) -> tuple[str, ...]:
        """Those of ``LABELS`` that the frame has; all frames of a data set have the same."""
        return tuple(name for name in LABELS if name in self.row)


class Source(Protocol):
    """Files that yield frames. It is sent to worker processes, so it holds paths only."""

    @property
    def name(self) -> str:
        """What errors call it."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it reads."""

    def frames(self, notes: Counter[str]) -> Iterator[Frame]:
        """Stream the frames; what the user should know is counted in ``notes``."""


def frame_id(info: Mapping[str, Any]) -> str:
    """ "<sid>_<fid>", or the sid alone where there is no fid."""
    return f"{info['sid']}_{info['fid']}" if "fid" in info else info["sid"]


def id_key(info: Mapping[str, Any]) -> int:
    """64 bits that stand for the id: equal ids have equal keys, others hardly ever."""
    return int.from_bytes(hashlib.blake2b(frame_id(info).encode(), digest_size=8).digest(), "big")


def check_frame(frame: Frame) -> None:
    """A frame must have atoms, and its numbers must be finite.

    Raises:
        ValueError: it has no atoms, or a coordinate, cell vector or label is not finite.
    """
    if len(frame.row["numbers"]) == 0:
        raise ValueError(f"{frame.where}: there are no atoms in it")
    for name in ("positions", "cell", *frame.labels):
        if not np.isfinite(frame.row[name]).all():
            raise ValueError(
                f"{frame.where}: {name} has a value that is not finite. Remove the frame or "
                "download the file again"
            )
