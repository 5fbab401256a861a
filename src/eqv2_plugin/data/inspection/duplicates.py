"""Frames that occur twice, in one data set or in two that should share nothing."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from eqv2_plugin.common.findings import SHOWN, Finding, Verdict, listed
from eqv2_plugin.data.ids import system_id
from eqv2_plugin.data.inspection.frames import Frame, FrameDataset


class Fingerprints:
    """64-bit hashes of ids, systems and geometries: 24 bytes a frame.

    Two of 1e8 different frames share a hash with a probability of 3e-4.
    """

    def __init__(self, dataset: FrameDataset, indices: np.ndarray) -> None:
        self.dataset, self.indices = dataset, indices
        self.ids, self.systems, self.geometries = array("Q"), array("Q"), array("Q")
        self.nameless = 0

    def add(self, frame: Frame) -> None:
        if frame.sid is None:
            self.nameless += 1
            # Frames without sid are never the same by name.
            self.ids.append(_hash(b"index", str(frame.index).encode()))
            self.systems.append(self.ids[-1])
        else:
            fid = "" if frame.fid is None else frame.fid
            system = system_id(frame.sid).encode()
            self.ids.append(_hash(system, b"\0", fid.encode()))
            self.systems.append(_hash(system))
        # float32 is what data sets store; adding 0 makes -0 and 0 one.
        positions = frame.positions.astype(np.float32) + np.float32(0)
        cell = frame.cell.astype(np.float32) + np.float32(0)
        self.geometries.append(
            _hash(frame.numbers.tobytes(), positions.tobytes(), cell.tobytes(), frame.pbc.tobytes())
        )

    def findings(self) -> list[Finding]:
        """Duplicates within the data set; their frames are read again for their names."""
        found = []
        if self.nameless:
            text = f"{self.nameless} frames have no sid: systems cannot be told apart"
            found.append(Finding("ids", Verdict.LOOK, text))
        for check, hashes, verdict, what in (
            ("duplicate ids", self.ids, Verdict.BAD, "an id that occurred before"),
            ("duplicate frames", self.geometries, Verdict.LOOK, "exactly the geometry of another"),
        ):
            repeated = _repeats(hashes)
            if len(repeated):
                text = f"{len(repeated)} frames have {what}: {self.names(repeated)}"
                found.append(Finding(check, verdict, text))
            else:
                found.append(Finding(check, Verdict.OK, "none"))
        return found

    def names(self, rows: np.ndarray) -> str:
        """The first few of the frames, read again for their names."""
        return listed([self.read(row).name for row in rows[:SHOWN]], len(rows))

    def read(self, row: int) -> Frame:
        """A frame that was added."""
        return self.dataset[int(self.indices[row])]


def leakage(datasets: Sequence[Fingerprints]) -> Iterator[Finding]:
    """What every two data sets share; nothing for fewer than two.

    That all systems of one are in the other is a way to split (by frames), to be seen by a
    person; that some are is an accident.
    """
    for a, b in combinations(datasets, 2):
        pair = f"{a.dataset.name} and {b.dataset.name}"
        rows = _shared(b.geometries, a.geometries)
        if len(rows):
            text = f"{pair} share {len(rows)} geometries exactly: {b.names(rows)}"
            yield Finding("shared frames", Verdict.BAD, text)
        else:
            yield Finding("shared frames", Verdict.OK, f"none between {pair}")
        if a.nameless or b.nameless:
            text = f"cannot be told for {pair}: frames without sid"
            yield Finding("shared systems", Verdict.LOOK, text)
            continue
        rows = _shared(b.systems, a.systems)
        if not len(rows):
            yield Finding("shared systems", Verdict.OK, f"none between {pair}")
            continue
        _, some = np.unique(np.asarray(b.systems)[rows], return_index=True)
        sizes = [len(np.unique(np.asarray(one.systems))) for one in (a, b)]
        sids = [b.read(rows[i]).sid or "" for i in sorted(some)[:SHOWN]]
        text = (
            f"{pair} share {len(some)} systems (of {sizes[0]} and {sizes[1]}): "
            f"{listed(sids, len(some))}; errors on the one say little of new systems"
        )
        by_design = len(some) == min(sizes)
        yield Finding("shared systems", Verdict.LOOK if by_design else Verdict.BAD, text)


def _hash(*parts: bytes) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return int.from_bytes(digest.digest(), "little")


def _repeats(hashes: array) -> np.ndarray:
    """Indices of the entries that occurred before, ascending."""
    values = np.asarray(hashes)
    order = np.argsort(values, kind="stable")
    again = values[order][1:] == values[order][:-1]
    return np.sort(order[1:][again])


def _shared(hashes: array, others: array) -> np.ndarray:
    """Indices of the entries that are among ``others``, ascending."""
    return np.flatnonzero(np.isin(np.asarray(hashes), np.asarray(others)))
