"""Frames of a batch of replicas on disk, written one by one, and as trajectories of ASE."""

from __future__ import annotations

import base64
import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import Trajectory

from eqv2_plugin.common.files import atomic_write
from eqv2_plugin.inference.records import RecordFile, read_lines
from eqv2_plugin.tasks.simulation.dynamics import End, Frame

HOLDS = "frames"
_ARRAYS = ("positions", "momenta", "eta", "rates", "energies", "forces")


def frames_path(results: Path, first: int) -> Path:
    """The file of the batch whose first replica this is."""
    return results / f"frames.{first:03d}.jsonl"


class FrameFile(RecordFile):
    """The frames of one batch of replicas; see `RecordFile`."""

    def __init__(self, path: Path, made_with: Mapping[str, Any]) -> None:
        super().__init__(path, made_with, HOLDS)

    def append(self, frame: Frame) -> None:
        """Add one; it is in the file when this returns."""
        ended = {str(r): dataclasses.asdict(end) for r, end in frame.ended.items()}
        arrays = {name: _text(getattr(frame, name)) for name in _ARRAYS}
        self.write({"step": frame.step, "ended": ended, **arrays})


def read_frames(path: Path, atoms: int) -> Iterator[Frame]:
    """The frames of a `FrameFile`, to the last bit, in order; none if it is not there."""
    if not path.exists():
        return
    lines = read_lines(path)
    next(lines, None)
    for record in lines:
        arrays = {name: _array(record[name]) for name in _ARRAYS}
        replicas = len(arrays["energies"])
        for name, array in arrays.items():
            shape = (replicas, -1) if name in ("eta", "rates") else (replicas, atoms, 3)
            arrays[name] = array if name == "energies" else array.reshape(shape)
        ended = {int(r): End(**end) for r, end in record["ended"].items()}
        yield Frame(record["step"], **arrays, ended=ended)


def last_frame(path: Path, atoms: int) -> Frame | None:
    """Where a batch goes on; None where it has not started."""
    return next(iter(deque(read_frames(path, atoms), maxlen=1)), None)


def of_replica(frames: Sequence[Frame], index: int) -> list[Frame]:
    """The frames up to which a replica of the batch lived."""
    return [frame for frame in frames if index not in frame.ended]


def write_trajectory(path: Path, molecule: Atoms, frames: Sequence[Frame], index: int) -> None:
    """One replica as a ``.traj`` of ASE: positions, momenta, energies and forces."""
    with atomic_write(path) as building, Trajectory(building, "w") as trajectory:
        for frame in of_replica(frames, index):
            atoms = Atoms(molecule.numbers, frame.positions[index], momenta=frame.momenta[index])
            atoms.calc = SinglePointCalculator(
                atoms, energy=float(frame.energies[index]), forces=frame.forces[index]
            )
            trajectory.write(atoms)


def _text(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array, "<f8").tobytes()).decode()


def _array(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f8").astype(np.float64)
