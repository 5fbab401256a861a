"""Files of frames parted by groups, into files of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from eqv2_plugin.common.files import building_folder
from eqv2_plugin.data.conversion.extxyz_writing import extxyz_text
from eqv2_plugin.data.conversion.sources import FileSource
from eqv2_plugin.data.own.identity import Identity, identify
from eqv2_plugin.data.own.split import split


@dataclass(frozen=True)
class Parts:
    """What was written."""

    frames: dict[str, int]  # of each part, by name
    grouped_by: str  # what a group is, for the user
    groups: int  # how many there are
    notes: Counter[str]  # how often what the user should know occurred


def write_parts(
    sources: Sequence[FileSource],
    folder: Path,
    val_fraction: float,
    test_fraction: float = 0.0,
    group_key: str | None = None,
    seed: int = 0,
) -> Parts:
    """Write ``train.extxyz``, ``val.extxyz`` and, if wanted, ``test.extxyz`` into a new folder.

    Frames go as `split` says, whole groups to one part, and are stored as they were, labels under
    their names. The folder appears when all is written.

    Raises:
        FileExistsError: there is such a folder.
        ValueError: see `split`; fractions that leave nothing; a file that is damaged.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists: give another --out, or remove it")
    if not 0.0 <= test_fraction < 1.0 - val_fraction:
        raise ValueError(
            f"val_fraction {val_fraction:g} and test_fraction {test_fraction:g} leave nothing to "
            "train on"
        )
    frames: list[Identity] = []
    for source in tqdm(sources, unit=" files", desc="looking for groups", disable=None):
        frames += [identify(atoms, where, group_key) for where, atoms in source.stored()]
    part_of, grouped_by, groups = _parts(frames, val_fraction, test_fraction, group_key, seed)
    notes: Counter[str] = Counter()
    counts = Counter(part_of)
    with building_folder(folder) as building, ExitStack() as stack:
        files = {
            part: stack.enter_context((building / f"{part}.extxyz").open("w")) for part in counts
        }
        parts = iter(part_of)
        for source in tqdm(sources, unit=" files", desc="writing", disable=None):
            for where, atoms in source.stored():
                files[next(parts)].write(extxyz_text(atoms, where, notes))
                if source.energy_note is not None:
                    notes[source.energy_note] += 1
    wanted = ("train", "val", "test")
    return Parts({p: counts[p] for p in wanted if p in counts}, grouped_by, groups, notes)


def _parts(
    frames: Sequence[Identity],
    val_fraction: float,
    test_fraction: float,
    group_key: str | None,
    seed: int,
) -> tuple[list[str], str, int]:
    """The part of each frame, and what groups are. Test frames are held out first."""
    part_of = ["train"] * len(frames)
    rest = list(range(len(frames)))
    first = None
    for part, fraction in (("test", test_fraction), ("val", val_fraction)):
        if part == "test" and not fraction:
            continue
        left = fraction * len(frames) / len(rest)
        found = split([frames[i] for i in rest], left, seed, group_key)
        first = first or found
        for i, out in zip(rest, found.is_validation, strict=True):
            if out:
                part_of[i] = part
        rest = [i for i in rest if part_of[i] == "train"]
    assert first is not None
    return part_of, first.grouped_by, first.groups
