"""Data sets for training: paths checked, then fairchem's readers, by our rules for labels.

Several in one run have a name each, which fairchem puts before those of their labels and tasks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.datasets.mt_concat_dataset import ConcatDataset, create_concat_dataset
from omegaconf import OmegaConf

from eqv2_plugin.data.ase_dataset import own_format
from eqv2_plugin.data.labels import LabelError
from eqv2_plugin.data.sample import EMBEDDED
from eqv2_plugin.data.structures import located, refuse_lost_databases

# Frames per split that are looked at before the first step.
FRAMES_READ = 1000
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_MISREAD = ("forces", "stress", "index")


def create_datasets(
    name: str,
    root: str | None,
    splits: Mapping[str, Mapping[str, Any]],
    reader: Mapping[str, Any],
    how_to_get: str,
    repeats: int = 1,
) -> ConcatDataset:
    """fairchem's `create_concat_dataset` for the splits of one data set below one root.

    Args:
        name: of the data set; fairchem's tasks refer to it.
        root: folder that each split's ``src`` is relative to, or
            "embedded:NAME" for a sample of the package.
        splits: {split: {"src": path, ...fairchem's options}}.
        reader: fairchem's options for all splits, with ``format``.
        how_to_get: sentence for the error where the root is missing.
        repeats: times that every frame occurs in an epoch.

    Raises:
        FileNotFoundError: no root given, or a path that does not exist.
        ValueError: a file that cannot be read, or labels that contradict each other.
    """
    options = {"root": root, "splits": splits, "reader": reader, "how_to_get": how_to_get}
    return _created({name: {**options, "repeats": repeats}})


def create_several_datasets(sets: Mapping[str, Mapping[str, Any]]) -> ConcatDataset:
    """fairchem's `create_concat_dataset` of several data sets, which are trained together.

    Args:
        sets: {name: options of `create_datasets`}; ``key_mapping`` of each reader gives the labels
            the names of the data set's tasks, {"energy": "dft_energy"}.

    Raises:
        ValueError: also a name that fairchem would misread, see `check_data_set_name`.
        FileNotFoundError: as there.
    """
    if not sets:
        raise ValueError("there is no data set: give at least one by its name")
    for name in sets:
        check_data_set_name(name)
    return _created(sets)


def check_data_set_name(name: str) -> None:
    """Of one of several data sets. fairchem tells splits by a dot, and tasks by what is in a name.

    Raises:
        ValueError: other characters than letters, digits and "_", or a word that fairchem seeks.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the data set {name!r} needs another name: a letter, then letters, digits or _"
        )
    if word := next((word for word in _MISREAD if word in name), None):
        raise ValueError(
            f"the data set {name!r} needs another name: fairchem takes labels with {word!r} in "
            "their name for something else"
        )


def _created(sets: Mapping[str, Mapping[str, Any]]) -> ConcatDataset:
    found: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    for name, options in sorted(sets.items()):
        with _readable(name, options):
            config = _config(name, options["root"], options["splits"], options["reader"])
            own = {f"{name}.{split}": options.get("repeats", 1) for split in config["splits"]}
            part = create_concat_dataset(
                OmegaConf.create({name: config}), {"sampling": {"type": "explicit", "ratios": own}}
            )
            for subset in part.datasets:
                refuse_lost_databases(subset.dataset)
                subset[0]
        ratios |= own
        found |= dict(zip(part.dataset_names, part.datasets, strict=True))
    return ConcatDataset(found, {"type": "explicit", "ratios": ratios})


def _config(
    name: str,
    root: str | None,
    splits: Mapping[str, Mapping[str, Any]],
    reader: Mapping[str, Any],
) -> dict[str, Any]:
    """fairchem's of one data set."""
    transforms = {"common_transform": {"dataset_name": name}}
    if "stress" in reader.get("key_mapping", {}):
        # To the shape that heads return.
        transforms["stress_reshape_transform"] = {"dataset_name": name}
    # fairchem refuses lin_ref, which oc22_lmdb has, beside the splits but not in them.
    found = {
        split: {**reader, **options, "src": _source(root, options["src"], f"{name}.{split}")}
        for split, options in splits.items()
    }
    return {"format": own_format(reader["format"]), "transforms": transforms, "splits": found}


@contextmanager
def _readable(name: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Errors that say which data set it was, and where to get it."""
    try:
        yield
    except LabelError:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}. {options['how_to_get']}") from error
    except Exception as error:
        raise ValueError(
            f"cannot read the data set {name} below {options['root']}: {error}. If a file is "
            "damaged, make it again"
        ) from error


def labelled_frames(datasets: ConcatDataset, most: int) -> Iterator[Atoms]:
    """About ``most`` frames with an energy, as stored, evenly spaced over all splits."""
    total = sum(map(len, datasets.datasets))
    for split in datasets.datasets:
        share = max(1, round(most * len(split) / total))
        for place in np.unique(np.linspace(0, len(split) - 1, share).astype(int)):
            atoms = split.dataset.get_atoms(int(split.indices[place]))
            if atoms.calc is not None and np.isfinite(atoms.calc.results.get("energy", np.nan)):
                yield atoms


def evenly_spaced(dataset: Any, most: int = FRAMES_READ) -> Iterator[tuple[int, AtomicData]]:
    """Indices and frames of up to ``most`` frames all over a split (one of ``datasets``)."""
    count = min(len(dataset), most)
    for index in np.linspace(0, len(dataset) - 1, count).astype(int):
        yield int(index), dataset[int(index)]


def _source(root: str | None, src: str, name: str) -> str:
    if root is None:
        raise FileNotFoundError(f"no data for {name}: set data_root=FOLDER")
    embedded = root.startswith(EMBEDDED)
    return located(f"{root}/{src}" if embedded else str(Path(root) / src), f"no data for {name}")
