"""The data set formats ``lmdb``, ``single_point_lmdb`` and ``trajectory_lmdb``."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from fairchem.core.common.registry import registry
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.datasets.base_dataset import BaseDataset
from fairchem.core.modules.transforms import DataTransforms

from eqv2_plugin.common.files import read_npz
from eqv2_plugin.data.lmdb.records import ALIASES, Record, read_record, to_ase
from eqv2_plugin.data.lmdb.shards import Shards

# What fairchem's create_dataset reads of a split's options itself.
_OF_FAIRCHEM = ("format", "seed", "max_atoms", "subset_to", "first_n", "sample_n", "no_shuffle")


@registry.register_dataset("lmdb")
@registry.register_dataset("single_point_lmdb")
@registry.register_dataset("trajectory_lmdb")
class LmdbDataset(BaseDataset):
    """Structures in the LMDB files of fairchem-core 1 and before, for fairchem-core 2.

    Files are read safely: a pickle that names any code is refused. Energies are float64 up
    to the last cast; all floats that come out are float32. Stored edges are dropped: set
    ``otf_graph`` in the model, as is the default.

    Args:
        config: ``src``: one LMDB file, or a folder of ``*.lmdb``;
            ``key_mapping``: {stored label: name, or list of names}, all of which every record
            must have (leave it out to predict structures without labels). Labels are
            ``energy`` (also found under ``y``), ``forces`` (also ``force``), ``y_init``,
            ``y_relaxed`` (eV) and ``pos_relaxed`` (Å);
            ``transforms``: as for fairchem's data sets;
            ``metadata_path``: npz file with ``natoms``, by default ``metadata.npz`` beside
            the data; without one, sizes are read from the records, at the cost of
            reading each once;
            ``shard`` and ``total_shards``: only this part of the records;
            and what fairchem's ``create_dataset`` takes (``first_n``, ``max_atoms``, ...).

    Raises:
        FileNotFoundError: nothing at ``src``.
        ValueError: an unknown option, or data that cannot be read.
    """

    options: tuple[str, ...] = (
        "src",
        "key_mapping",
        "transforms",
        "metadata_path",
        "shard",
        "total_shards",
    )

    def __init__(self, config: dict[str, Any]) -> None:
        if unknown := set(config) - {*self.options, *_OF_FAIRCHEM}:
            raise ValueError(
                f"unknown option(s) {sorted(unknown)} of an LMDB data set; "
                f"{type(self).__name__} has {', '.join(self.options)}"
            )
        if not isinstance(config.get("src"), str):
            raise ValueError(
                f"src must be one LMDB file or one folder of them, not {config.get('src')!r}"
            )
        super().__init__(config)
        self.shards = Shards.at(config["src"])
        self.rows = _part(self._selected(), config)
        self.num_samples = len(self.rows)
        self.key_mapping = _label_names(config.get("key_mapping") or {})
        self.transforms = DataTransforms(config.get("transforms") or {})
        self._natoms: np.ndarray | None = None

    def _selected(self) -> range | np.ndarray:
        """The records to use, before ``shard``."""
        return range(len(self.shards))

    @property
    def indices(self) -> np.ndarray:
        # Made each time: kept, it would travel to every worker.
        return np.arange(self.num_samples)

    def record(self, idx: int) -> Record:
        """One structure with float64 energies, labels under their stored names."""
        row = int(self.rows[idx])
        pickled = self.shards.read(row)
        try:
            return self._converted(read_record(pickled))
        except ValueError as error:
            raise ValueError(f"{self.shards.describe(row)}: {error}") from error

    def get_atoms(self, idx: int) -> Atoms:
        """The record as ASE atoms (`to_ase`), where ASE data sets check more than is stored."""
        return to_ase(self.record(idx))

    stored_atoms = get_atoms

    def _converted(self, record: Record) -> Record:
        """Hook of subclasses: the record with its energies as they are to be learnt."""
        return record

    def __getitem__(self, idx: int) -> AtomicData:
        """One structure as fairchem's ``ase_db`` reader returns it.

        ``sid`` is "<sid>-frame-<fid>", or "<sid>" where no frame is stored; other labels,
        ``nads`` and ``oc22`` are attributes of their names, numbers of shape [1].
        """
        record = self.record(idx)
        sid = str(idx) if record.sid is None else record.sid
        if record.fid is not None:
            sid = f"{sid}-frame-{record.fid}"
        try:
            labels = _renamed(_label_tensors(record), self.key_mapping)
        except ValueError as error:
            raise ValueError(f"{self.shards.describe(int(self.rows[idx]))}: {error}") from error
        return self.transforms(_to_atomic_data(record, sid, labels))

    @cached_property
    def _metadata(self) -> dict[str, np.ndarray]:
        """The arrays of metadata.npz, for the chosen records; empty without such a file."""
        if self.config.get("metadata_path") is not None:
            path = Path(self.config["metadata_path"])
        else:
            source = Path(self.config["src"]).expanduser()
            path = (source.parent if source.is_file() else source) / "metadata.npz"
            if not path.is_file():
                return {}
        arrays = read_npz(path)
        for name, array in arrays.items():
            if array.shape[:1] != (len(self.shards),):
                raise ValueError(
                    f"{path} has {array.size} entries {name!r} for the {len(self.shards)} records "
                    f"of {self.config['src']}: make it again, or give the right metadata_path"
                )
        return {name: array[np.asarray(self.rows)] for name, array in arrays.items()}

    def metadata_hasattr(self, attr: str) -> bool:
        """Whether ``get_metadata`` knows it; it always knows ``natoms``."""
        return attr == "natoms" or attr in self._metadata

    def get_metadata(self, attr: str, idx: Any) -> Any:
        """The attribute of one or many structures (an array of the shape of ``idx``), or None."""
        if attr in self._metadata:
            return self._metadata[attr][np.asarray(idx)]
        return self._sizes(np.asarray(idx)) if attr == "natoms" else None

    def _sizes(self, idx: np.ndarray) -> np.ndarray:
        """Numbers of atoms, from the records; each is read once."""
        if self._natoms is None:
            self._natoms = np.zeros(self.num_samples, np.int32)
        flat = idx.reshape(-1)
        unknown = np.unique(flat[self._natoms[flat] == 0])
        if len(unknown) > 10_000:
            logging.warning(
                "no metadata.npz with natoms for %s: reading %d records for their sizes",
                self.config["src"],
                len(unknown),
            )
        for i in unknown:
            self._natoms[i] = len(self.record(int(i)).numbers)
        return self._natoms[idx]

    def __getstate__(self) -> dict[str, Any]:
        # Workers read frames only, and sizes would be most of what is sent to them.
        left_out = ("_metadata", "_natoms")
        kept = {name: value for name, value in self.__dict__.items() if name not in left_out}
        return {**kept, "_natoms": None}


def lmdb_frames(source: str | os.PathLike[str]) -> Iterator[Atoms]:
    """Every record of one LMDB file or a folder of ``*.lmdb``, in order, as in `to_ase`."""
    dataset = LmdbDataset({"src": str(source)})
    return (dataset.stored_atoms(index) for index in range(len(dataset)))


def _part(rows: range | np.ndarray, config: Mapping[str, Any]) -> range | np.ndarray:
    """Part ``shard`` of ``total_shards`` nearly equal parts, as ``numpy.array_split`` cuts."""
    if "shard" not in config and "total_shards" not in config:
        return rows
    shard, total = config.get("shard"), config.get("total_shards")
    if type(shard) is not int or type(total) is not int or not 0 <= shard < total:
        raise ValueError(
            f"shard={shard!r} and total_shards={total!r}: set both, with 0 <= shard < total_shards"
        )
    size, larger = divmod(len(rows), total)
    start = shard * size + min(shard, larger)
    stop = start + size + (shard < larger)
    if start == stop:
        raise ValueError(f"shard {shard} of {total} is empty: there are {len(rows)} records")
    return rows[start:stop]


def _label_names(key_mapping: Mapping[str, str | list[str]]) -> dict[str, list[str]]:
    """{stored label as ``records`` calls it: its names in the output}."""
    names: dict[str, list[str]] = {}
    for stored, new in key_mapping.items():
        names.setdefault(ALIASES.get(stored, stored), []).extend(
            [new] if isinstance(new, str) else new
        )
    return names


def _label_tensors(record: Record) -> dict[str, torch.Tensor]:
    energies = {
        name: torch.tensor([value], dtype=torch.float32) for name, value in record.energies.items()
    }
    return energies | {name: _float32(array) for name, array in record.vectors.items()}


def _renamed(
    labels: dict[str, torch.Tensor], names: dict[str, list[str]]
) -> dict[str, torch.Tensor]:
    if missing := [name for name in names if name not in labels]:
        raise ValueError(
            f"it has no label {missing[0]!r} (it has: {', '.join(labels) or 'none'}). Training "
            "needs it: correct key_mapping or the data; for prediction leave key_mapping out"
        )
    renamed: dict[str, torch.Tensor] = {}
    for stored, label in labels.items():
        for name in names.get(stored, [stored]):
            if name in renamed:
                raise ValueError(f"key_mapping gives two labels the name {name!r}")
            renamed[name] = label
    return renamed


def _float32(array: np.ndarray) -> torch.Tensor:
    # A copy: what was unpickled is read-only, which torch does not know.
    return torch.from_numpy(array.astype(np.float32))


def _to_atomic_data(record: Record, sid: str, labels: dict[str, torch.Tensor]) -> AtomicData:
    n = len(record.numbers)
    data = AtomicData(
        pos=_float32(record.positions),
        atomic_numbers=torch.from_numpy(record.numbers),
        cell=_float32(record.cell).view(1, 3, 3),
        pbc=torch.from_numpy(record.pbc).view(1, 3),
        natoms=torch.tensor([n]),
        edge_index=torch.empty((2, 0), dtype=torch.long),
        cell_offsets=torch.empty((0, 3)),
        nedges=torch.tensor([0]),
        charge=torch.tensor([0]),
        spin=torch.tensor([0]),
        fixed=torch.from_numpy(record.fixed),
        tags=torch.from_numpy(record.tags),
        energy=labels.pop("energy", None),
        forces=labels.pop("forces", None),
        sid=sid,
    )
    for name, label in labels.items():
        data[name] = label
    for name, count in record.counts.items():
        data[name] = torch.tensor([count])
    return data
