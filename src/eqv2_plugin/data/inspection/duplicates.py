"""Frames that occur twice, in one data set or in two that should share nothing."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from itertools import combinations

import numpy as np

from eqv2_plugin.data.inspection.findings import SHOWN, Finding, Verdict, listed
from eqv2_plugin.data.inspection.frames import Frame, FrameDataset


class Fingerprints:
    """64-bit hashes of ids, systems and geometries: 24 bytes a frame.

    Two of 1e8 different frames share a hash with a probability of 3e-4.
    """

    def __init__(self) -> None:
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
            # LMDBs of OC20 have the number of what the download calls random1234567.
            system = frame.sid.removeprefix("random").encode()
            self.ids.append(_hash(system, b"\0", fid.encode()))
            self.systems.append(_hash(system))
        # float32 is what data sets store; adding 0 makes -0 and 0 one.
        positions = frame.positions.astype(np.float32) + np.float32(0)
        cell = frame.cell.astype(np.float32) + np.float32(0)
        self.geometries.append(
            _hash(frame.numbers.tobytes(), positions.tobytes(), cell.tobytes(), frame.pbc.tobytes())
        )

    def findings(self, dataset: FrameDataset, indices: np.ndarray) -> list[Finding]:
        """Duplicates within one data set; the frames are read again for their names."""
        found = []
        if self.nameless:
            text = f"{self.nameless} frames have no sid: systems cannot be told apart"
            found.append(Finding("ids", Verdict.LOOK, text))
        repeated = _repeats(self.ids)
        if len(repeated):
            names = _names(dataset, indices[repeated])
            text = f"{len(repeated)} frames have an id that occurred before: {names}"
            found.append(Finding("duplicate ids", Verdict.BAD, text))
        else:
            found.append(Finding("duplicate ids", Verdict.OK, "none"))
        repeated = _repeats(self.geometries)
        if len(repeated):
            names = _names(dataset, indices[repeated])
            text = f"{len(repeated)} frames have exactly the geometry of another: {names}"
            found.append(Finding("duplicate frames", Verdict.LOOK, text))
        else:
            found.append(Finding("duplicate frames", Verdict.OK, "none"))
        return found


def leakage(
    datasets: list[FrameDataset], prints: list[Fingerprints], indices: list[np.ndarray]
) -> Iterator[Finding]:
    """What every two data sets share; nothing for fewer than two.

    That all systems of one are in the other is a way to split (by frames), to be seen by a
    person; that some are is an accident.
    """
    for a, b in combinations(range(len(datasets)), 2):
        pair = f"{datasets[a].name} and {datasets[b].name}"
        check = "shared frames"
        rows = _shared(prints[b].geometries, prints[a].geometries)
        if len(rows):
            names = _names(datasets[b], indices[b][rows])
            text = f"{pair} share {len(rows)} geometries exactly: {names}"
            yield Finding(check, Verdict.BAD, text)
        else:
            yield Finding(check, Verdict.OK, f"none between {pair}")
        if prints[a].nameless or prints[b].nameless:
            text = f"cannot be told for {pair}: frames without sid"
            yield Finding("shared systems", Verdict.LOOK, text)
            continue
        rows = _shared(prints[b].systems, prints[a].systems)
        if not len(rows):
            yield Finding("shared systems", Verdict.OK, f"none between {pair}")
            continue
        _, some = np.unique(np.asarray(prints[b].systems)[rows], return_index=True)
        sizes = [len(np.unique(np.asarray(prints[i].systems))) for i in (a, b)]
        sids = [datasets[b][int(indices[b][rows[i]])].sid or "" for i in sorted(some)[:SHOWN]]
        text = (
            f"{pair} share {len(some)} systems (of {sizes[0]} and {sizes[1]}): "
            f"{listed(sids, len(some))}; errors on the one say little of new systems"
        )
        by_design = len(some) == min(sizes)
        yield Finding("shared systems", Verdict.LOOK if by_design else Verdict.BAD, text)


def _names(dataset: FrameDataset, indices: np.ndarray) -> str:
    """The first few of the frames, read again for their names."""
    return listed([dataset[int(i)].name for i in indices[:SHOWN]], len(indices))


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
