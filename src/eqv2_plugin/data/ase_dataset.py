"""fairchem's readers of ASE data, with labels and fixed atoms by this package's rules."""

from __future__ import annotations

import logging

from ase import Atoms
from fairchem.core.common.registry import registry
from fairchem.core.datasets.ase_datasets import (
    AseAtomsDataset,
    AseReadDataset,
    AseReadMultiStructureDataset,
)

from eqv2_plugin.data.fixed_atoms import PARTLY_FIXED, partly_fixed, use_fix_atoms
from eqv2_plugin.data.labels import READ_FROM, drop_info_labels, read_labels
from eqv2_plugin.data.travelling_ase_db import TravellingAseDB

# Formats of configs: the names that our readers are registered under.
_OWN = {name: f"eqv2_{name}" for name in ("ase_db", "ase_read", "ase_read_multi")}


def own_format(name: str) -> str:
    """The format to ask fairchem for, so that ASE data are read by the classes below."""
    return _OWN.get(name, name)


class CheckedAtoms(AseAtomsDataset):
    """Atoms whose labels and fixed atoms are what every other command takes them for.

    ``AtomicData.from_ase`` lets ``atoms.info`` replace labels and counts ``FixAtoms`` alone.
    """

    def stored_atoms(self, idx: int) -> Atoms:
        """One structure exactly as fairchem reads it."""
        return super().get_atoms(idx)

    def get_atoms(self, idx: int) -> Atoms:
        """One structure: labels only in the calculator, fixed atoms held by ``FixAtoms``.

        What users should know (labels under other names, partly held atoms) is logged once.

        Raises:
            ValueError: labels that contradict each other, or of a wrong shape.
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
class CheckedAseDB(CheckedAtoms, TravellingAseDB):
    """The format ``ase_db``."""


@registry.register_dataset(_OWN["ase_read"])
class CheckedAseRead(CheckedAtoms, AseReadDataset):
    """The format ``ase_read``."""


@registry.register_dataset(_OWN["ase_read_multi"])
class CheckedAseReadMulti(CheckedAtoms, AseReadMultiStructureDataset):
    """The format ``ase_read_multi``."""
