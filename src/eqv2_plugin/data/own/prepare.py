"""From a user's files to a folder that training reads, and the numbers that a recipe needs."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from ase.neighborlist import neighbor_list

from eqv2_plugin.common.files import save_json
from eqv2_plugin.common.findings import Verdict
from eqv2_plugin.common.manifest import read_manifest, refuse_other
from eqv2_plugin.common.text import warn_once
from eqv2_plugin.data.conversion.frame import Frame, frame_of_atoms
from eqv2_plugin.data.conversion.job import convert
from eqv2_plugin.data.conversion.sources import FileSource, find_sources
from eqv2_plugin.data.inspection.check import check_datasets
from eqv2_plugin.data.inspection.frames import open_dataset
from eqv2_plugin.data.labels import label_set
from eqv2_plugin.data.own.given import given_paths, patterns
from eqv2_plugin.data.own.keys import LabelKeys
from eqv2_plugin.data.own.mixed_units import mixed_units_note
from eqv2_plugin.data.own.scales import FIT, REFIT, fit_scales
from eqv2_plugin.data.own.split import split
from eqv2_plugin.data.own.survey import Note, Survey, Wanted, survey
from eqv2_plugin.data.structures import open_structures

NUMBERS = "prepared.json"
_FRAMES_FOR_NEIGHBOURS = 50
_FRAMES_CHECKED = 1000
# Of the published models, so that further elements can be fine-tuned.
_MAX_NUM_ELEMENTS = 90
_OF_EARLIER_VERSIONS = {"labels": "energy_forces", "stress_rms": None}


@dataclass(frozen=True)
class OwnData:
    """What is prepared, and from what."""

    train: tuple[str, ...]  # files, folders or globs; without ``val`` groups of ``train`` validate
    val: tuple[str, ...] | None
    val_fraction: float  # see `split`, as for group_key and seed
    group_key: str | None
    energy_key: str | None  # see `survey`, as for forces_key
    forces_key: str | None
    references: str  # ``fit``, ``none``, ``checkpoint``, a published name or an ``.npz`` file
    # Of the model, Å; with the next, to count neighbours. None: the checkpoint's, not counted.
    cutoff: float | None
    max_neighbors: int | None
    seed: int
    stress_key: str | None = None
    labels: str | None = None  # "energy_forces", ...; None: what is found
    target_key: str | None = None  # of a number that is trained in their place


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
        ``root``, ``frames``, ``labels`` ("energy_forces", ...), what `fit_scales` returns,
        ``max_num_elements``, ``avg_num_nodes``, ``avg_degree`` (None without a cutoff), and
        ``summary``, the lines that tell the user.

    Raises:
        ValueError: see `survey`, `split` and `convert`; labels that do not vary; the folder was
            prepared from something else.
    """
    train = find_sources(given_paths(data.train, "train"))
    val = None if data.val is None else find_sources(given_paths(data.val, "val"))
    files = {str(f.resolve()): f.stat().st_size for s in [*train, *(val or [])] for f in s.files}
    made_with = {"options": asdict(data), "files": files}
    done = folder / NUMBERS
    if done.is_file():
        before = {**_OF_EARLIER_VERSIONS, **read_manifest(done)}
        earlier = before.pop("made_with")
        since = {"stress_key": None, "labels": None, "target_key": None}
        earlier["options"] = {**since, **earlier["options"]}
        refuse_other(earlier, made_with, folder, "data")
        return before
    wanted = Wanted(
        data.energy_key,
        data.forces_key,
        data.stress_key,
        None if data.labels is None else label_set(data.labels),
        data.group_key,
        data.target_key,
    )
    found = survey(train, wanted)
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
        keys, trained = found.keys, label_set(_labels(found))
        same = Wanted(keys.energy, keys.forces, keys.stress, trained, None, data.target_key)
        other = survey(val, same)
        parts, sources = {"train": found.notes, "val": other.notes}, {"train": train, "val": val}
        how = "as given"
        known = {note.digest for note in found.notes}
        if twice := sum(note.digest in known for note in other.notes):
            warn_once(
                f"{twice:,} frames of val are copies of training frames: remove them from one"
            )
    elements = {int(z) for notes in parts.values() for n in notes for z in n.numbers}
    labels = _labels(found)
    numbers, lines = fit_scales(
        parts["train"], elements, data.references, label_set(labels), data.target_key
    )
    for part, notes in parts.items():
        # Of a run that was killed, perhaps with other options.
        shutil.rmtree(folder / part, ignore_errors=True)
        convert(_part(sources[part], notes, found.keys), folder / part, {})
    numbers |= {
        "root": str(folder),
        "frames": len(parts["train"]),
        "labels": labels,
        "max_num_elements": max(_MAX_NUM_ELEMENTS, max(elements) + 1),
        "avg_num_nodes": float(np.mean([len(n.numbers) for n in parts["train"]])),
        "avg_degree": _neighbours(folder / "train", data),
        "summary": [
            *_labels_lines(found),
            *{s.energy_note: None for s in [*train, *(val or [])] if s.energy_note},
            _parts_line(parts, how),
            *lines,
            *_findings(folder / "train", parts["train"], found.keys),
        ],
    }
    save_json(done, {**numbers, "made_with": made_with})
    return numbers


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


def _neighbours(train: Path, data: OwnData) -> float | None:
    """Mean number of neighbours of an atom, the model's own limit heeded."""
    if data.cutoff is None or data.max_neighbors is None:
        return None
    structures = open_structures({"format": "ase_db", "src": str(train)})
    counts = []
    for index in np.unique(np.linspace(0, len(structures) - 1, _FRAMES_FOR_NEIGHBOURS).astype(int)):
        atoms = structures[int(index)]
        found = np.bincount(neighbor_list("i", atoms, data.cutoff), minlength=len(atoms))
        counts.append(np.minimum(found, data.max_neighbors))
    return max(float(np.concatenate(counts).mean()), 1.0)


def _findings(train: Path, notes: Sequence[Note], keys: LabelKeys) -> list[str]:
    """What a check of the data finds unusual: units, distances, outliers of what is trained."""
    beside = set() if keys.forces is not None else {"force labels"}
    if keys.is_property:
        beside |= {"energy labels", "energy range", "units of labels"}
    mixed = mixed_units_note(notes)
    found = check_datasets([open_dataset(train)], sample=_FRAMES_CHECKED).all_findings()
    unusual = [
        one
        for one in found
        if one.verdict in (Verdict.LOOK, Verdict.BAD) and one.check not in beside
    ]
    lines = [f"{one.verdict} ({one.check}): {one.text}" for one in unusual]
    return [*lines, *([f"{Verdict.LOOK} (mixed units): {mixed}"] if mixed else [])]


def _labels(found: Survey) -> str:
    others = {"forces": found.keys.forces, "stress": found.keys.stress}
    return "_".join(["energy", *(name for name, key in others.items() if key is not None)])


def _labels_lines(found: Survey) -> list[str]:
    keys = found.keys
    left = f"left out: {found.unlabelled:,} frame(s) without these labels"
    if keys.is_property:
        return [f"property: {keys.energy!r}, trained alone", *([left] if found.unlabelled else [])]
    line = f"labels: energy from {keys.energy!r} (eV)"
    line += "" if keys.forces is None else f", forces from {keys.forces!r} (eV/Å)"
    line += "" if keys.stress is None else f", stress from {keys.stress!r} (eV/Å^3)"
    lines = [line, *found.remarks]
    if keys.forces is None:
        lines.append("no forces are trained: energies alone")
    if found.unlabelled:
        lines.append(left)
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
    data = OwnData(patterns(train), None if val is None else patterns(val), *options)
    if data.references == REFIT:
        data = replace(data, references=FIT)
    numbers = prepare(data, Path(folder))
    print("\n".join(["Your data:", *(f"  {line}" for line in numbers["summary"])]), flush=True)
    return numbers


def data_name(train: str | tuple[str, ...], checkpoint: str | None = None) -> str:
    """What a run is called by default: "mine" of mine.extxyz, the first of several.

    With a checkpoint it is "mine-finetuned".
    """
    name = Path(patterns(train)[0]).name.split(".")[0].replace("*", "_") or "own"
    return name if checkpoint is None else f"{name}-finetuned"
