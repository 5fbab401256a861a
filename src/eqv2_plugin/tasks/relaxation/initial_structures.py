"""Where relaxations start: initial structures of IS2RE data, or first frames of S2EF data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms

from eqv2_plugin.data.ids import system_ids
from eqv2_plugin.data.labels import read_labels
from eqv2_plugin.data.structures import Structures, open_structures
from eqv2_plugin.inference.energy_agreement import spread_out
from eqv2_plugin.tasks.splits import fingerprint


@dataclass(frozen=True)
class Target:
    """What DFT found for a structure."""

    energy: float | None  # eV, of the relaxed structure; None if the data do not tell
    positions: np.ndarray | None  # [atoms, 3] Å, relaxed; None likewise


class InitialStructures:
    """The initial structures of one split, each read when it is asked for.

    IS2RE data hold one structure for each sid, with ``y_relaxed`` and ``pos_relaxed`` as targets
    where they are known. S2EF data hold frames of DFT relaxations (sid and fid): each sid starts
    at its first frame, and its last one is the target.

    Raises:
        ValueError: an id occurs twice, also after a prefix that EvalAI does not know is dropped.
    """

    def __init__(self, structures: Structures) -> None:
        self._structures = structures
        frames: dict[str, list[tuple[int, int]]] = {}
        self._of_frames = False
        for index, (sid, fid) in enumerate(structures.ids()):
            self._of_frames |= fid is not None
            frames.setdefault(sid, []).append((_number(structures.name, sid, fid), index))
        self._first = {sid: min(found)[1] for sid, found in frames.items()}
        self._last = {sid: max(found)[1] for sid, found in frames.items()}
        self.sids = list(self._first)
        # Before all the work, not when files are written.
        system_ids(self.sids, structures.name)

    def fingerprint(self, config: Mapping[str, Any]) -> str:
        """A hash that tells these data, opened by ``config``, from others, wherever they lie."""
        return fingerprint(config, self._structures)

    def initial(self, sid: str) -> Atoms:
        """The structure that a relaxation starts from, without calculator."""
        atoms = self._structures[self._first[sid]]
        atoms.calc = None
        atoms.arrays.pop("pos_relaxed", None)
        return atoms

    def target(self, sid: str) -> Target:
        """What DFT found."""
        last = self._last[sid]
        if self._of_frames and last == self._first[sid]:
            return Target(None, None)
        atoms = self._structures[last]
        if self._of_frames:
            labels = read_labels(atoms, f"{self._structures.name}, {sid}")
            return Target(labels.energy, atoms.positions)
        energy = atoms.info.get("y_relaxed")
        return Target(None if energy is None else float(energy), atoms.arrays.get("pos_relaxed"))

    def labelled(self) -> Iterator[tuple[Atoms, float | None]]:
        """Some of DFT's relaxed structures, initial ones where it tells none, and energies, eV."""
        for index in spread_out(len(self.sids)):
            sid = self.sids[index]
            target = self.target(sid)
            if target.energy is None:
                continue
            atoms = self.initial(sid)
            if target.positions is not None:
                atoms.positions[:] = target.positions
            yield atoms, target.energy


def open_initial_structures(
    splits: Mapping[str, Mapping[str, Any]],
) -> dict[str, InitialStructures]:
    """The initial structures of all splits, from {split: config of `open_structures`}."""
    return {s: InitialStructures(open_structures(config, s)) for s, config in splits.items()}


def all_ids(splits: Mapping[str, InitialStructures]) -> list[str]:
    """ "split/sid" of everything to relax, in order."""
    return [f"{split}/{sid}" for split, found in splits.items() for sid in found.sids]


def initial_structures(
    splits: Mapping[str, InitialStructures], ids: Iterable[str]
) -> Iterator[tuple[str, Atoms]]:
    """Those of some of `all_ids`."""
    wanted = set(ids)
    for split, found in splits.items():
        for sid in found.sids:
            if f"{split}/{sid}" in wanted:
                yield f"{split}/{sid}", found.initial(sid)


def _number(name: str, sid: str, fid: str | None) -> int:
    if fid is None:
        return 0
    try:
        return int(fid)
    except ValueError as error:
        raise ValueError(f"{name}: the frame {fid!r} of {sid} is no number") from error
