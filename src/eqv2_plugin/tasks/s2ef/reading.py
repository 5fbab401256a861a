"""Structures on their way to the model: read by worker processes, in batches of like size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from torch.utils.data import DataLoader, Dataset

from eqv2_plugin.data.fixed_atoms import fixed_mask
from eqv2_plugin.data.ids import s2ef_id
from eqv2_plugin.data.labels import read_labels
from eqv2_plugin.data.structures import Structures
from eqv2_plugin.inference.energy_agreement import spread_out
from eqv2_plugin.inference.parts import Part


@dataclass(frozen=True)
class Item:
    """One structure."""

    index: int  # in its split
    id: str  # see `s2ef_id`
    atoms: Atoms  # without labels
    free: np.ndarray  # [atoms] True for atoms that are not fixed (`fixed_mask`)
    energy: float | None  # label, eV; None if none is stored
    forces: np.ndarray | None  # [atoms, 3] label, eV/Å; None if none is stored

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels that are stored."""
        found = {"energy": self.energy, "forces": self.forces}
        return tuple(name for name, value in found.items() if value is not None)


def read_item(structures: Structures, index: int) -> Item:
    """Read one structure; a ValueError if it has no sid or fid, or labels that contradict."""
    atoms = structures[index]
    if "fid" not in atoms.info:
        raise ValueError(
            f"{structures.name}: structure {index} (sid {atoms.info['sid']}) has no fid, the "
            "number of the frame: ids of S2EF predictions are <sid>_<fid>"
        )
    name = s2ef_id(atoms.info["sid"], atoms.info["fid"])
    labels = read_labels(atoms, f"{structures.name}, {name}")
    atoms.calc = None
    # fairchem takes labels from here, too; what models take as input stays.
    atoms.info = {key: atoms.info[key] for key in ("charge", "spin") if key in atoms.info}
    return Item(index, name, atoms, ~fixed_mask(atoms), labels.energy, labels.forces)


def some_labelled(structures: Structures) -> Iterator[tuple[Atoms, float | None]]:
    """Some structures with their energies (eV); none where the first one has no energy."""
    for index in spread_out(len(structures)):
        item = read_item(structures, index)
        if item.energy is None:
            return
        yield item.atoms, item.energy


def batches_by_size(
    sizes: Sequence[int], indices: Sequence[int], atoms_per_batch: int
) -> list[list[int]]:
    """``indices`` in batches of like size (numbers of atoms), the largest structures first.

    A structure with more than ``atoms_per_batch`` is a batch of its own.
    """
    batches: list[list[int]] = []
    room = 0
    # Largest first: what is too large for the memory shows at once.
    for i in np.argsort(-np.asarray(sizes), kind="stable"):
        if sizes[i] > room:
            batches.append([])
            room = atoms_per_batch
        batches[-1].append(indices[i])
        room -= sizes[i]
    return batches


class _Items(Dataset):
    def __init__(self, structures: Structures) -> None:
        self.structures = structures

    def __getitem__(self, index: int) -> Item | Exception:
        # Raised in the main process: a worker's would come with two tracebacks.
        try:
            return read_item(self.structures, index)
        except (ValueError, OSError) as error:
            return error


class _Batches:
    """Batches of all parts, one part after the other; sizes are looked up when it is reached."""

    def __init__(self, structures: Structures, parts: Sequence[Part], atoms_per_batch: int) -> None:
        self.structures = structures
        self.parts = parts
        self.atoms_per_batch = atoms_per_batch

    def __iter__(self) -> Iterator[list[int]]:
        for part in self.parts:
            indices = range(part.start, part.stop)
            sizes = [self.structures.natoms(i) for i in indices]
            yield from batches_by_size(sizes, indices, self.atoms_per_batch)


def read_batches(
    structures: Structures, parts: Sequence[Part], atoms_per_batch: int, num_workers: int
) -> Iterator[list[Item]]:
    """Batches of the parts, in the order of the parts, all of one split."""
    loader: DataLoader = DataLoader(
        _Items(structures),
        batch_sampler=_Batches(structures, parts, atoms_per_batch),
        num_workers=num_workers,
        collate_fn=list,
    )
    for batch in loader:
        for item in batch:
            if isinstance(item, Exception):
                raise item
        yield batch
