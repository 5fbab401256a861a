"""Data sets for training: paths checked, then fairchem's readers, by our rules for labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairchem.core.datasets.mt_concat_dataset import ConcatDataset, create_concat_dataset
from omegaconf import OmegaConf

from eqv2_plugin.data.ase_dataset import own_format
from eqv2_plugin.data.labels import LabelError
from eqv2_plugin.data.lmdb.shards import open_lmdb
from eqv2_plugin.data.sample import SAMPLES, sample_directory

# A root that starts so names a sample of this package.
EMBEDDED = "embedded:"


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
    located = {}
    for split, options in splits.items():
        source = _source(root, options["src"], f"{name}.{split}", how_to_get)
        # fairchem refuses lin_ref, which oc22_lmdb has, beside the splits but not in them.
        located[split] = {**reader, **options, "src": str(source)}
    transforms = {"common_transform": {"dataset_name": name}}
    if "stress" in reader.get("key_mapping", {}):
        # To the shape that heads return.
        transforms["stress_reshape_transform"] = {"dataset_name": name}
    config = {
        "format": own_format(reader["format"]),
        "transforms": transforms,
        "splits": located,
    }
    ratios = {f"{name}.{split}": repeats for split in located}
    try:
        for options in located.values():
            for shard in _databases(Path(options["src"])):
                # The process dies on reading beyond the end of a file that was cut off.
                open_lmdb(str(shard)).close()
        datasets = create_concat_dataset(
            OmegaConf.create({name: config}), {"sampling": {"type": "explicit", "ratios": ratios}}
        )
        _check_readable(datasets)
    except LabelError:
        raise
    except Exception as error:
        raise ValueError(
            f"cannot read the data set {name} below {root}: {error}. If a file is damaged, "
            "make it anew"
        ) from error
    return datasets


def _source(root: str | None, src: str, name: str, how_to_get: str) -> Path:
    if root is None:
        raise FileNotFoundError(f"no data for {name}: set data_root=FOLDER. {how_to_get}")
    if root.startswith(EMBEDDED):
        sample = root.removeprefix(EMBEDDED)
        if src not in SAMPLES.get(sample, ()):
            raise FileNotFoundError(f"no split {src!r} of an embedded sample {sample!r}: {SAMPLES}")
        return sample_directory(sample, src)
    path = Path(root).expanduser() / src
    if not path.exists():
        raise FileNotFoundError(f"no data for {name}: {path} does not exist. {how_to_get}")
    return path


def _check_readable(datasets: ConcatDataset) -> None:
    """Read one frame of each split, and see that no shard was lost.

    fairchem's ``ase_db`` reader skips database files that it cannot open.
    """
    for subset in datasets.datasets:
        reader = subset.dataset
        source = Path(reader.config["src"])
        opened = getattr(reader, "dbs", None)
        if opened is not None and len(opened) < len(shards := _databases(source)):
            raise ValueError(
                f"only {len(opened)} of the {len(shards)} database files in {source} can be opened"
            )
        subset[0]


def _databases(source: Path) -> list[Path]:
    """The ASE databases in LMDB form at a path."""
    if source.is_dir():
        return sorted(source.glob("*.aselmdb"))
    return [source] if source.suffix == ".aselmdb" else []
