"""Under which names a file's labels are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from eqv2_plugin.common.text import listed
from eqv2_plugin.data.labels import looks_like_label

# eV and eV/Å: labels within this of each other are the same.
_SAME = 1e-6
_SHOWN = 8


@dataclass(frozen=True)
class LabelKeys:
    """Names of the labels among calculator results, ``atoms.info`` and per-atom arrays."""

    energy: str  # eV
    forces: str  # eV/Å, [atoms, 3]

    def labelled(self, atoms: Atoms) -> Atoms | None:
        """A copy that has these labels, and no others, in a calculator; None without them."""
        energy, forces = stored(atoms, self.energy), stored(atoms, self.forces)
        if energy is None or forces is None:
            return None
        bare = atoms.copy()
        for name in {self.energy, self.forces, "energy", "forces", "stress", "free_energy"}:
            bare.info.pop(name, None)
            if name not in ("numbers", "positions"):
                bare.arrays.pop(name, None)
        bare.calc = SinglePointCalculator(bare, energy=float(np.squeeze(energy)), forces=forces)
        return bare


@dataclass
class KeyCount:
    """How many frames store what, counted frame by frame."""

    frames: int = 0
    numbers: Counter[str] = field(default_factory=Counter)
    vectors: Counter[str] = field(default_factory=Counter)
    differ: set[frozenset[str]] = field(default_factory=set)

    def add(self, atoms: Atoms) -> None:
        """Count one frame."""
        self.frames += 1
        names = _names(atoms)
        numbers = {n: value for n in names if (value := _number(atoms, n)) is not None}
        vectors = {n: array for n in names if (array := _vectors(atoms, n)) is not None}
        self.numbers.update(numbers.keys())
        self.vectors.update(vectors.keys())
        for kind, found in (("energy", numbers), ("force", vectors)):
            likely = [name for name in found if _is_likely(name, kind)]
            for i, first in enumerate(likely):
                for second in likely[:i]:
                    if not np.allclose(found[first], found[second], rtol=0, atol=_SAME):
                        self.differ.add(frozenset((first, second)))

    def choose(self, energy: str | None, forces: str | None) -> LabelKeys:
        """The names that are given, or else the only likely ones.

        Raises:
            ValueError: no frame stores the name, none looks like the label, or several do and
                hold different numbers.
        """
        return LabelKeys(
            self._one("energy", energy, self.numbers), self._one("forces", forces, self.vectors)
        )

    def _one(self, label: str, given: str | None, found: Counter[str]) -> str:
        kind = "numbers" if label == "energy" else "vectors of every atom"
        there = f"the {kind} stored with frames are {_shown(found)}"
        if given is not None:
            if not found[given]:
                raise ValueError(f"{label}_key={given}: no frame stores that; {there}")
            return given
        likely = sorted(
            (name for name in found if _is_likely(name, label.removesuffix("s"))),
            key=lambda name: (-found[name], name != label, name),
        )
        if not likely:
            raise ValueError(
                f"no frame has {label} that could be learned: {there}. If one of them is meant, "
                f"give {label}_key=NAME"
            )
        for other in likely[1:]:
            if frozenset((likely[0], other)) in self.differ:
                raise ValueError(
                    f"frames store {likely[0]!r} and {other!r}, and they differ: say which are "
                    f"the labels, {label}_key={likely[0]} or {label}_key={other}"
                )
        return likely[0]


def stored(atoms: Atoms, name: str) -> Any:
    """What a frame stores under a name, in its calculator, ``info`` or per-atom arrays; or None."""
    results = {} if atoms.calc is None else atoms.calc.results
    for place in (results, atoms.info, atoms.arrays):
        if place.get(name) is not None:
            return place[name]
    return None


def _names(atoms: Atoms) -> Iterable[str]:
    results = {} if atoms.calc is None else atoms.calc.results
    return dict.fromkeys(str(n) for place in (results, atoms.info, atoms.arrays) for n in place)


def _number(atoms: Atoms, name: str) -> float | None:
    value = stored(atoms, name)
    if isinstance(value, (bool, str)) or np.size(value) != 1:
        return None
    array = np.asarray(value)
    return float(np.squeeze(array)) if array.dtype.kind in "fiu" else None


def _vectors(atoms: Atoms, name: str) -> np.ndarray | None:
    if name in ("positions", "momenta"):
        return None
    array = np.asarray(stored(atoms, name))
    return array if array.shape == (len(atoms), 3) and array.dtype.kind == "f" else None


def _is_likely(name: str, kind: str) -> bool:
    plain = name in ("energy", "forces")
    return kind in name.lower() and (plain or looks_like_label(name))


def _shown(found: Counter[str]) -> str:
    return listed(sorted(found), _SHOWN) if found else "none"
