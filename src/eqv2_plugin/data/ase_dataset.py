"""fairchem's readers of ASE data, with labels and fixed atoms by this package's rules."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from operator import eq
from typing import Any, Literal

import torch
from ase import Atoms
from ase.db.core import Database
from ase_db_backends.aselmdb import LMDBDatabase
from fairchem.core.common.registry import registry
from fairchem.core.datasets.ase_datasets import (
    AseAtomsDataset,
    AseDBDataset,
    AseReadDataset,
    AseReadMultiStructureDataset,
)
from fairchem.core.datasets.atomic_data import AtomicData

from eqv2_plugin.common.options import checked
from eqv2_plugin.data.fixed_atoms import PARTLY_FIXED, partly_fixed, use_fix_atoms
from eqv2_plugin.data.labels import READ_FROM, drop_info_labels, read_labels

# Formats of configs: the names that our readers are registered under.
_OWN = {name: f"eqv2_{name}" for name in ("ase_db", "ase_read", "ase_read_multi")}
# Found again where they are needed; to workers, who read frames only, they would be a burden.
_NOT_SENT = ("_metadata", "indices", "__getitem__")


# Of a frame or batch: [B] eV, float64. fairchem wants ``energy`` in the dtype of positions.
EXACT_ENERGY = "energy_float64"
EnergyDtype = Literal["float32", "float64"]


def own_format(name: str) -> str:
    """The format to ask fairchem for, so that ASE data are read by the classes below."""
    return _OWN.get(name, name)


class CheckedAtoms(AseAtomsDataset):
    """Atoms whose labels and fixed atoms are what every other command takes them for.

    ``AtomicData.from_ase`` lets ``atoms.info`` replace labels and counts ``FixAtoms`` alone.
    """

    a2g: Callable[..., AtomicData]  # fairchem's: atoms to data

    def __init__(self, config: dict, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        # An option of ours: float64 adds the energy as `EXACT_ENERGY`.
        if checked("energy_dtype", config.get("energy_dtype", "float32"), EnergyDtype) == "float64":
            self.a2g = partial(_with_exact_energy, self.a2g)

    def stored_atoms(self, idx: int) -> Atoms:
        """One structure exactly as fairchem reads it."""
        return super().get_atoms(idx)

    def get_atoms(self, idx: int) -> Atoms:
        """One structure: labels only in the calculator, fixed atoms held by ``FixAtoms``.

        What users should know (labels under other names, partly held atoms) is logged once; labels
        that contradict each other, or of a wrong shape, raise a ValueError.
        """
        atoms = self.stored_atoms(idx)
        where = f"{self.config.get('src')}, structure {idx} (sid {atoms.info.get('sid')})"
        labels = read_labels(atoms, where)
        drop_info_labels(atoms.info)
        if labels.unread:
            self._say_once(f"stored but not read: {', '.join(labels.unread)}; {READ_FROM}", where)
        if atoms.constraints and (partly := partly_fixed(atoms)):
            self._say_once(PARTLY_FIXED, f"{where}, {partly} atoms")
        use_fix_atoms(atoms)
        return atoms

    def _say_once(self, text: str, where: str) -> None:
        said = self.__dict__.setdefault("_said", set())
        if text not in said:
            said.add(text)
            logging.warning("%s (first: %s)", text, where)


@registry.register_dataset(_OWN["ase_db"])
class CheckedAseDB(CheckedAtoms, AseDBDataset):
    """The format ``ase_db``; sent to workers it is closed, and opens again at the first read."""

    def _load_dataset_get_ids(self, config: dict) -> Sequence[int]:
        count = len(super()._load_dataset_get_ids(config))
        for number, ids in enumerate(self.db_ids):
            database = self.dbs[number]
            self.db_ids[number] = _compact(ids)
            if getattr(database, "ids", None) is ids:
                database.ids = self.db_ids[number]
        return range(count)

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name not in _NOT_SENT}
        return {**kept, "dbs": [_closed(database) for database in self.dbs]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.dbs = [kind.__new__(kind) for kind, _ in state["dbs"]]
        for database, (_, inside) in zip(self.dbs, state["dbs"], strict=True):
            database.__dict__.update(inside)


@registry.register_dataset(_OWN["ase_read"])
class CheckedAseRead(CheckedAtoms, AseReadDataset):
    """The format ``ase_read``."""


@registry.register_dataset(_OWN["ase_read_multi"])
class CheckedAseReadMulti(CheckedAtoms, AseReadMultiStructureDataset):
    """The format ``ase_read_multi``."""


def _with_exact_energy(convert: Callable[..., AtomicData], atoms: Atoms, **options) -> AtomicData:
    data = convert(atoms, **options)
    if atoms.calc is not None and "energy" in atoms.calc.results:
        data[EXACT_ENERGY] = torch.tensor([atoms.calc.results["energy"]], dtype=torch.float64)
    return data


def _closed(database: Database) -> tuple[type[Database], dict[str, Any]]:
    """Class and attributes of a database, but what is open: LMDB's environment opens by itself."""
    is_lmdb = isinstance(database, LMDBDatabase)
    return type(database), database.__dict__ | ({"_env": None, "_env_pid": None} if is_lmdb else {})


def _compact(ids: list[int]) -> Sequence[int]:
    """A range instead of the list, if it is one."""
    if not ids or type(ids[0]) is not int or ids[-1] - ids[0] + 1 != len(ids):
        return ids
    whole = range(ids[0], ids[-1] + 1)
    return whole if all(map(eq, ids, whole)) else ids
