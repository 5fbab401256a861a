"""The one opener of structures: any data set that fairchem reads, as ASE atoms with their ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from ase import Atoms
from fairchem.core.common.registry import registry
from fairchem.core.datasets.base_dataset import create_dataset
from omegaconf import OmegaConf

from eqv2_plugin.data.ase_dataset import own_format
from eqv2_plugin.data.ids import split_frame
from eqv2_plugin.data.lmdb.shards import open_lmdb
from eqv2_plugin.data.sample import EMBEDDED, sample_directory

_SHOWN = 5


class Structures(Sequence[Atoms]):
    """Structures in the order of their data set, each read when it is asked for.

    Atoms carry what is stored: positions and cell (Å), tags, constraints (``FixAtoms`` for all
    that are fixed), labels in a single-point calculator (eV, eV/Å). ``atoms.info`` has ``sid``
    (str) and, where a frame is stored, ``fid`` (str), and ``y_relaxed`` (eV) where that is;
    ``pos_relaxed`` (Å, [atoms, 3]) is among ``atoms.arrays``. Other arrays are lists in
    ``atoms.info``: fairchem's calculator cannot compare arrays there when it is asked again.
    ``name`` is for errors.
    """

    def __init__(self, reader: Any, indices: Sequence[int], name: str) -> None:
        self.name = name
        self._reader = reader
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Atoms: ...

    @overload
    def __getitem__(self, index: slice) -> list[Atoms]: ...

    def __getitem__(self, index: int | slice) -> Atoms | list[Atoms]:
        """One structure, or a list of them.

        Raises:
            IndexError: there is none.
            ValueError: it cannot be read, has labels that contradict each other, or no sid.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        atoms = self._read(index, self._reader.get_atoms)
        sid, fid = atoms.info.get("sid"), atoms.info.pop("fid", None)
        if sid is None:
            raise ValueError(
                f"{self.name}: structure {index} has no sid, the id that results are filed under: "
                "store one as text in the data (row data of an ASE database, or attribute `sid`)"
            )
        system, frame = split_frame(str(sid))
        # A frame in the sid counts where none is stored apart.
        atoms.info["sid"] = str(sid) if fid is not None else system
        if fid is not None or frame is not None:
            atoms.info["fid"] = str(frame if fid is None else fid)
        try:
            take_arrays_out_of_info(atoms)
        except ValueError as error:
            raise ValueError(f"{self.name}: structure {index} ({sid}): {error}") from error
        return atoms

    def stored(self, index: int) -> Atoms:
        """One structure as it is stored: labels unchecked, and no sid where there is none."""
        return self._read(index, self._reader.stored_atoms)

    def natoms(self, index: int) -> int:
        """Number of atoms: from the data set's metadata if it has them, else read."""
        found = self._reader.get_metadata("natoms", int(self._indices[index]))
        return len(self._read(index, self._reader.get_atoms)) if found is None else int(found)

    def ids(self) -> list[tuple[str, str | None]]:
        """(sid, fid or None) of every structure; reads the whole data set.

        Raises:
            ValueError: an id occurs twice, or a structure has none.
        """
        found = [(a.info["sid"], a.info.get("fid")) for a in self]
        twice = [one for one, times in Counter(found).items() if times > 1]
        if twice:
            shown = ", ".join(s if f is None else f"{s} frame {f}" for s, f in twice[:_SHOWN])
            raise ValueError(
                f"{self.name} holds {len(twice)} id(s) more than once: {shown}. Remove the "
                "doubles: results could not be told apart"
            )
        return found

    def files(self) -> list[Path]:
        """The files that the structures are read from, as far as they can be named."""
        return [
            f for p in _paths(self._reader) for f in (sorted(p.iterdir()) if p.is_dir() else [p])
        ]

    def _read(self, index: int, read: Any) -> Atoms:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} structures, none with number {index}")
        place = int(self._indices[index])
        try:
            atoms = read(place)
        except Exception as error:
            raise ValueError(f"{self.name}: structure {index} cannot be read: {error}") from error
        # fairchem makes up this sid where none is stored.
        if type(atoms.info.get("sid")) is int and atoms.info["sid"] == place:
            del atoms.info["sid"]
        return atoms


def open_structures(
    config: Mapping[str, Any], name: str = "the data set", subset: bool = True
) -> Structures:
    """Open what a data set config describes.

    Args:
        config: as for fairchem's data sets: ``format`` (ase_db, ase_read, lmdb, oc22_lmdb, ...),
            ``src`` (path, or "embedded:SAMPLE/SPLIT"), and options such as ``first_n``.
        name: for errors.
        subset: False takes all structures, whatever ``metadata.npz`` beside them says.

    Raises:
        FileNotFoundError: nothing at ``src``.
        ValueError: no format or source given, a format that has no structures, or data that
            cannot be read or is empty.
    """
    options = plain(config)
    if missing := [key for key in ("format", "src") if not options.get(key)]:
        raise ValueError(f"{name}: the data set config gives no {' and no '.join(missing)}")
    source, form = options["src"], options["format"]
    one = isinstance(source, str)
    options["src"] = located(source, name) if one else [located(path, name) for path in source]
    if not any(options.get(key) for key in ("first_n", "sample_n")):
        options["no_shuffle"] = True
    options["format"] = own_format(form)
    try:
        if subset:
            chosen = create_dataset(options, name)
            reader, indices = chosen.dataset, chosen.indices
        else:
            reader = registry.get_dataset_class(options["format"])(options)
            indices = range(len(reader))
        refuse_lost_databases(reader)
    except Exception as error:
        raise ValueError(
            f"{name}: cannot read {source} as {form}: {error}. If a file is damaged, make it again"
        ) from error
    if not hasattr(reader, "stored_atoms"):
        raise ValueError(
            f"{name}: data sets of format {form} give no structures; use ase_db, lmdb or oc22_lmdb"
        )
    if len(indices) == 0:
        raise ValueError(f"{name}: there is no structure in {source}")
    return Structures(reader, indices, name)


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as plain data, interpolations resolved."""
    found: Any = OmegaConf.to_container(OmegaConf.create(dict(config)), resolve=True)
    return found


def located(source: str, name: str) -> str:
    """The existing file or folder of a source (path, or "embedded:SAMPLE/SPLIT").

    Raises:
        FileNotFoundError: there is none; begins with ``name``.
        ValueError: an ASE database in LMDB form that is cut off or none.
    """
    if source.startswith(EMBEDDED):
        sample, _, split = source.removeprefix(EMBEDDED).partition("/")
        try:
            return str(sample_directory(sample, split))
        except ValueError as error:
            raise FileNotFoundError(f"{name}: no {source}: {error}") from error
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"{name}: {path} does not exist")
    for database in _databases(path):
        # The process would die on reading beyond the end of a file that was cut off.
        open_lmdb(str(database)).close()
    return str(path)


def refuse_lost_databases(reader: Any) -> None:
    """fairchem's ``ase_db`` reader skips files that it cannot open: raise a ValueError then."""
    there = [database for path in _paths(reader) for database in _databases(path)]
    opened = getattr(reader, "dbs", there)
    if len(opened) < len(there):
        raise ValueError(f"only {len(opened)} of its {len(there)} databases can be opened")


def take_arrays_out_of_info(atoms: Atoms) -> None:
    """Move ``pos_relaxed`` to the arrays of ``atoms``, and make lists of other arrays."""
    relaxed = atoms.info.pop("pos_relaxed", None)
    if relaxed is not None:
        positions = np.asarray(relaxed, float)
        if positions.size != 3 * len(atoms):
            raise ValueError(
                f"pos_relaxed has {positions.size} numbers, but there are {len(atoms)} atoms: "
                "store [atoms, 3]"
            )
        atoms.set_array("pos_relaxed", positions.reshape(-1, 3))
    for key, value in atoms.info.items():
        if isinstance(value, np.ndarray):
            atoms.info[key] = value.tolist()


def _paths(reader: Any) -> list[Path]:
    source = reader.config["src"]
    return [Path(path) for path in ([source] if isinstance(source, str) else source)]


def _databases(path: Path) -> list[Path]:
    """The ASE databases in LMDB form at a path."""
    return sorted(path.glob("*.aselmdb")) if path.is_dir() else [path] * (path.suffix == ".aselmdb")
