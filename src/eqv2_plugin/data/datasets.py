"""Data sets for training: paths checked, then fairchem's readers, by our rules for labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.datasets.mt_concat_dataset import ConcatDataset, create_concat_dataset
from omegaconf import OmegaConf

from eqv2_plugin.data.ase_dataset import own_format
from eqv2_plugin.data.labels import LabelError
from eqv2_plugin.data.sample import EMBEDDED
from eqv2_plugin.data.structures import located, refuse_lost_databases

# Frames per split that are looked at before the first step.
FRAMES_READ = 1000


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
    transforms = {"common_transform": {"dataset_name": name}}
    if "stress" in reader.get("key_mapping", {}):
        # To the shape that heads return.
        transforms["stress_reshape_transform"] = {"dataset_name": name}
    try:
        # fairchem refuses lin_ref, which oc22_lmdb has, beside the splits but not in them.
        found = {
            split: {**reader, **options, "src": _source(root, options["src"], f"{name}.{split}")}
            for split, options in splits.items()
        }
        config = {
            "format": own_format(reader["format"]),
            "transforms": transforms,
            "splits": found,
        }
        ratios = {f"{name}.{split}": repeats for split in found}
        datasets = create_concat_dataset(
            OmegaConf.create({name: config}), {"sampling": {"type": "explicit", "ratios": ratios}}
        )
        for subset in datasets.datasets:
            refuse_lost_databases(subset.dataset)
            subset[0]
    except LabelError:
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}. {how_to_get}") from error
    except Exception as error:
        raise ValueError(
            f"cannot read the data set {name} below {root}: {error}. If a file is damaged, "
            "make it again"
        ) from error
    return datasets


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
