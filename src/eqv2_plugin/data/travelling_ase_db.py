"""fairchem's reader of ASE databases, fit to be sent to worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from operator import eq
from typing import Any

from ase.db.core import Database
from ase_db_backends.aselmdb import LMDBDatabase
from fairchem.core.datasets.ase_datasets import AseDBDataset

# Found again where they are needed; to workers, who read frames only, they would be a burden.
_LEFT_OUT = ("_metadata", "indices", "__getitem__")


class TravellingAseDB(AseDBDataset):
    """`AseDBDataset` that can be pickled: spawned data loader workers get it so.

    What comes out opens the databases when it reads from them first, as forked processes do, too.
    Ids without gaps take no memory.
    """

    def _load_dataset_get_ids(self, config: dict) -> Sequence[int]:
        count = len(super()._load_dataset_get_ids(config))
        for number, ids in enumerate(self.db_ids):
            database = self.dbs[number]
            self.db_ids[number] = _compact(ids)
            if getattr(database, "ids", None) is ids:
                database.ids = self.db_ids[number]
        return range(count)

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name not in _LEFT_OUT}
        return {**kept, "dbs": [_Closed(database) for database in self.dbs]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.dbs = [closed.database() for closed in state["dbs"]]


class _Closed:
    """All of a database but what is open."""

    def __init__(self, database: Database) -> None:
        self._type = type(database)
        self._state = dict(database.__dict__)
        if isinstance(database, LMDBDatabase):
            # It opens its environment anew where there is none, or one of another process.
            self._state |= {"_env": None, "_env_pid": None}

    def database(self) -> Database:
        made = self._type.__new__(self._type)
        made.__dict__.update(self._state)
        return made


def _compact(ids: list[int]) -> Sequence[int]:
    """A range instead of the list, if it is one."""
    if not ids:
        return ids
    first, last = ids[0], ids[-1]
    if type(first) is int and last - first + 1 == len(ids):
        whole = range(first, last + 1)
        if all(map(eq, ids, whole)):
            return whole
    return ids
