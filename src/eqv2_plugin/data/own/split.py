"""Which frames train and which validate, when nobody has said so: whole groups go one way."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eqv2_plugin.data.own.identity import Identified

# Fewer groups of a kind say nothing about unseen ones.
MIN_GROUPS = 5
BLOCKS = 10


@dataclass(frozen=True)
class Split:
    """Which frames validate, and how they were chosen."""

    is_validation: np.ndarray  # [frames]
    grouped_by: str  # what a group is, for the user
    groups: int  # how many there are


def split(
    notes: Sequence[Identified], fraction: float, seed: int, group_key: str | None = None
) -> Split:
    """Choose whole groups for validation until they hold about ``fraction`` of the frames.

    Groups are what ``group_key`` names; else systems (sid), files or compositions, the first
    of which there are five or more; else ten blocks of consecutive frames, since neighbouring
    frames of a trajectory resemble each other. Copies of a structure stay together. Groups are
    taken in an order that their names and the seed alone decide, so that further data leave the
    others where they are; one with an element that no other group holds trains.

    Raises:
        ValueError: a fraction out of range, fewer than two frames, or no group that could validate.
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"val_fraction must lie between 0 and 1, got {fraction}")
    if len(notes) < 2:
        raise ValueError(
            "one labelled frame cannot be parted into training and validation: give more frames, "
            "or val=FILE"
        )
    grouped_by, names = _groups(notes, group_key)
    first: dict[bytes, str] = {}
    names = [first.setdefault(note.digest, name) for note, name in zip(notes, names, strict=True)]
    counts = Counter(names)
    if len({note.digest for note in notes}) == 1:
        raise ValueError(f"all {len(notes)} frames are copies of one structure: nothing to learn")
    if len(counts) < 2:
        raise ValueError(
            f"all {len(notes)} frames are one group ({grouped_by}): give val=FILE, or another "
            "group_key"
        )
    elements: dict[str, set[int]] = {name: set() for name in counts}
    for note, name in zip(notes, names, strict=True):
        elements[name].update(note.numbers.tolist())
    groups_left = Counter(z for own in elements.values() for z in own)
    wanted, taken = fraction * len(notes), 0
    chosen: set[str] = set()
    for name in sorted(counts, key=lambda name: _rank(name, seed)):
        # The first one counts whatever its size, one group and every element are left for training.
        fits = taken + counts[name] / 2 <= wanted and len(chosen) < len(counts) - 1
        known = all(groups_left[z] > 1 for z in elements[name])
        if known and (fits or not chosen):
            chosen.add(name)
            taken += counts[name]
            groups_left.subtract(elements[name])
    if not chosen:
        # Each holds an element of its own: one of them is then not trained, which is said.
        chosen.add(min(counts, key=lambda name: (counts[name], _rank(name, seed))))
    return Split(np.array([name in chosen for name in names]), grouped_by, len(counts))


def _groups(notes: Sequence[Identified], group_key: str | None) -> tuple[str, list[str]]:
    systems = [note.system for note in notes]
    if group_key is not None:
        return group_key, [str(system) for system in systems]
    candidates = {
        "system (sid)": [str(system) for system in systems] if None not in systems else [],
        "file": [note.where.rpartition(", frame ")[0] for note in notes],
        "composition": [_composition(note) for note in notes],
    }
    for kind, names in candidates.items():
        if len(set(names)) >= MIN_GROUPS:
            return kind, names
    blocks = min(BLOCKS, len(notes))
    numbers = np.arange(len(notes)) * blocks // len(notes)
    return f"block of {len(notes) // blocks} consecutive frames", [str(n) for n in numbers]


def _composition(note: Identified) -> str:
    numbers, counts = np.unique(note.numbers, return_counts=True)
    return " ".join(f"{z}:{n}" for z, n in zip(numbers, counts, strict=True))


def _rank(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
