"""From a user's files to a folder that training reads, and the numbers that a recipe needs."""

from __future__ import annotations

import glob
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ase.neighborlist import neighbor_list

from eqv2_plugin.common.files import save_json
from eqv2_plugin.common.manifest import read_manifest, refuse_other
from eqv2_plugin.common.text import warn_once
from eqv2_plugin.data.conversion.frame import Frame, frame_of_atoms
from eqv2_plugin.data.conversion.job import convert
from eqv2_plugin.data.conversion.sources import FileSource, find_sources
from eqv2_plugin.data.own.keys import LabelKeys
from eqv2_plugin.data.own.scales import fit_scales
from eqv2_plugin.data.own.split import split
from eqv2_plugin.data.own.survey import Note, Survey, survey
from eqv2_plugin.data.structures import open_structures

NUMBERS = "prepared.json"
_FRAMES_FOR_NEIGHBOURS = 50
# Of the published models, so that further elements can be fine-tuned.
_MAX_NUM_ELEMENTS = 90


@dataclass(frozen=True)
class OwnData:
    """What is prepared, and from what."""

    train: tuple[str, ...]  # files, folders or globs; without ``val`` groups of ``train`` validate
    val: tuple[str, ...] | None
    val_fraction: float  # see `split`, as for group_key and seed
    group_key: str | None
    energy_key: str | None  # see `survey`, as for forces_key
    forces_key: str | None
    references: str  # ``fit``, ``none``, a published name or an ``.npz`` file
    cutoff: float  # of the model, Å; with the next, to count neighbours
    max_neighbors: int
    seed: int


@dataclass(frozen=True)
class PartSource(FileSource):
    """The labelled frames of a file that belong to one part."""

    keys: LabelKeys
    chosen: tuple[int, ...]

    def frames(self, notes: Counter[str]) -> Iterator[Frame]:
        """As `FileSource`; a frame whose sid says nothing of its place gets that as fid."""
        wanted = set(self.chosen)
        for index, (where, atoms) in enumerate(self.stored()):
            if index not in wanted:
                continue
            labelled = self.keys.labelled(atoms)
            assert labelled is not None, where
            labelled.info.setdefault("fid", index)
            yield frame_of_atoms(labelled, self.system, index, where, notes)


def prepare(data: OwnData, folder: Path) -> dict[str, Any]:
    """Write ``train`` and ``val`` below a folder; the same call again finds them there.

    Returns:
        ``root``, ``frames``, ``energy_rmsd`` (eV, of structures that a fit of references has not
        seen), ``force_rms`` (eV/Å, free atoms), ``references`` ({symbol: eV per atom} or None),
        ``max_num_elements``, ``avg_num_nodes``, ``avg_degree``, and ``summary``, the lines that
        tell the user.

    Raises:
        ValueError: see `survey`, `split` and `convert`; labels that do not vary; the folder was
            prepared from something else.
    """
    train = find_sources(_paths(data.train, "train"))
    val = None if data.val is None else find_sources(_paths(data.val, "val"))
    files = {str(f.resolve()): f.stat().st_size for s in [*train, *(val or [])] for f in s.files}
    made_with = {"options": asdict(data), "files": files}
    done = folder / NUMBERS
    if done.is_file():
        before = read_manifest(done)
        refuse_other(before.pop("made_with"), made_with, folder, "data")
        return before
    found = survey(train, data.energy_key, data.forces_key, data.group_key)
    if val is None:
        parted = split(found.notes, data.val_fraction, data.seed, data.group_key)
        held = parted.is_validation
        parts = {
            "train": [n for n, out in zip(found.notes, held, strict=True) if not out],
            "val": [n for n, out in zip(found.notes, held, strict=True) if out],
        }
        how = f"whole groups by {parted.grouped_by}, of {parted.groups}"
        sources = {"train": train, "val": train}
    else:
        other = survey(val, found.keys.energy, found.keys.forces)
        parts, sources = {"train": found.notes, "val": other.notes}, {"train": train, "val": val}
        how = "as given"
        known = {note.digest for note in found.notes}
        if twice := sum(note.digest in known for note in other.notes):
            warn_once(
                f"{twice:,} frames of val are copies of training frames: remove them from one"
            )
    elements = {int(z) for notes in parts.values() for n in notes for z in n.numbers}
    numbers, lines = fit_scales(parts["train"], elements, data.references)
    for part, notes in parts.items():
        # Of a run that was killed, perhaps with other options.
        shutil.rmtree(folder / part, ignore_errors=True)
        convert(_part(sources[part], notes, found.keys), folder / part, {})
    numbers |= {
        "root": str(folder),
        "frames": len(parts["train"]),
        "max_num_elements": max(_MAX_NUM_ELEMENTS, max(elements) + 1),
        "avg_num_nodes": float(np.mean([len(n.numbers) for n in parts["train"]])),
        "avg_degree": _neighbours(folder / "train", data),
        "summary": [
            *_labels_lines(found),
            *{s.energy_note: None for s in [*train, *(val or [])] if s.energy_note},
            _parts_line(parts, how),
            *lines,
        ],
    }
    save_json(done, {**numbers, "made_with": made_with})
    return numbers


def _paths(patterns: Sequence[str], name: str) -> list[Path]:
    paths = []
    for pattern in patterns:
        text = str(Path(pattern).expanduser())
        matches = sorted(glob.glob(text)) if glob.has_magic(text) else [text]
        if not matches:
            raise FileNotFoundError(f"{name}={pattern}: no file fits this pattern")
        paths += [Path(match) for match in matches]
    return paths


def _part(
    sources: Sequence[FileSource], notes: Sequence[Note], keys: LabelKeys
) -> list[PartSource]:
    chosen: dict[int, list[int]] = {}
    for note in notes:
        chosen.setdefault(note.source, []).append(note.index)
    return [
        PartSource(sources[n].files, sources[n].system, keys, tuple(rows))
        for n, rows in sorted(chosen.items())
    ]


def _neighbours(train: Path, data: OwnData) -> float:
    """Mean number of neighbours of an atom, the model's own limit heeded."""
    structures = open_structures({"format": "ase_db", "src": str(train)})
    counts = []
    for index in np.unique(np.linspace(0, len(structures) - 1, _FRAMES_FOR_NEIGHBOURS).astype(int)):
        atoms = structures[int(index)]
        found = np.bincount(neighbor_list("i", atoms, data.cutoff), minlength=len(atoms))
        counts.append(np.minimum(found, data.max_neighbors))
    return max(float(np.concatenate(counts).mean()), 1.0)


def _labels_lines(found: Survey) -> list[str]:
    lines = [
        f"labels: energy from {found.keys.energy!r} (eV), forces from {found.keys.forces!r} (eV/Å)"
    ]
    if found.unlabelled:
        lines.append(f"left out: {found.unlabelled:,} frame(s) without these labels")
    return lines


def _parts_line(parts: dict[str, list[Note]], how: str) -> str:
    return f"frames: {len(parts['train']):,} train, {len(parts['val']):,} validate ({how})"


@cache
def prepared(
    folder: str, train: str | tuple[str, ...], val: str | tuple[str, ...] | None, *options: Any
) -> dict[str, Any]:
    """`prepare`, and say what was found; once per process, however often a config asks.

    ``options`` are the other fields of `OwnData`, in their order.
    """
    data = OwnData(_patterns(train), None if val is None else _patterns(val), *options)
    numbers = prepare(data, Path(folder))
    print("\n".join(["Your data:", *(f"  {line}" for line in numbers["summary"])]), flush=True)
    return numbers


def data_name(train: str | tuple[str, ...]) -> str:
    """What a run is called by default: "mine" of mine.extxyz, the first of several."""
    return Path(_patterns(train)[0]).name.split(".")[0].replace("*", "_") or "own"


def _patterns(given: str | tuple[str, ...]) -> tuple[str, ...]:
    return given if isinstance(given, tuple) else (str(given),)
