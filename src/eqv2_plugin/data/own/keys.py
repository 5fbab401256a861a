"""Under which names a file's labels are stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from eqv2_plugin.common.text import listed
from eqv2_plugin.data.labels import looks_like_label

Label = Literal["energy", "forces", "stress"]
# eV, eV/Å, eV/Å^3: labels within this of each other are the same.
_SAME = 1e-6
_SHOWN = 8
_KINDS = {"energy": "numbers", "forces": "vectors of every atom", "stress": "tensors"}
# Vectors of every atom that are no forces, whatever else they are called.
_NO_FORCES = {"positions", "momenta", "velocities", "initial_magmoms", "magmoms"}


@dataclass(frozen=True)
class LabelKeys:
    """Names of the labels among calculator results, ``atoms.info`` and per-atom arrays."""

    energy: str  # eV
    forces: str | None  # eV/Å, [atoms, 3]; None where energies alone are trained
    stress: str | None = None  # eV/Å^3, six or nine numbers; None where it is not trained
    is_property: bool = False  # ``energy`` is no energy, but another number per structure

    def labelled(self, atoms: Atoms) -> Atoms | None:
        """A copy that has these labels, and no others, in a calculator; None without them."""
        results: dict[str, Any] = {}
        for label, name in (
            ("energy", self.energy), ("forces", self.forces), ("stress", self.stress)
        ):  # fmt: skip
            if name is None:
                continue
            if (value := stored(atoms, name)) is None:
                return None
            results[label] = value
        results["energy"] = float(np.squeeze(results["energy"]))
        if "stress" in results:
            results["stress"] = as_voigt(results["stress"])
        bare = atoms.copy()
        own = {self.energy, self.forces, self.stress}
        for name in own | {"energy", "forces", "stress", "free_energy"}:
            bare.info.pop(name, None)
            if name not in ("numbers", "positions"):
                bare.arrays.pop(name, None)
        bare.calc = SinglePointCalculator(bare, **results)
        return bare


@dataclass
class Found:
    """What one frame stores that could be a label, by name."""

    numbers: dict[str, float]
    vectors: dict[str, np.ndarray]  # [atoms, 3]
    tensors: dict[str, np.ndarray]  # [6], in Voigt's order


@dataclass
class KeyCount:
    """How many frames store what, counted frame by frame."""

    frames: int = 0
    numbers: Counter[str] = field(default_factory=Counter)
    vectors: Counter[str] = field(default_factory=Counter)
    tensors: Counter[str] = field(default_factory=Counter)
    differ: set[frozenset[str]] = field(default_factory=set)

    def add(self, atoms: Atoms) -> Found:
        """Count one frame; returns what it stores."""
        self.frames += 1
        names = list(_names(atoms))
        found = Found(
            {n: value for n in names if (value := _number(atoms, n)) is not None},
            {n: array for n in names if (array := _vectors(atoms, n)) is not None},
            {n: array for n in names if (array := _tensor(atoms, n)) is not None},
        )
        self.numbers.update(found.numbers.keys())
        self.vectors.update(found.vectors.keys())
        self.tensors.update(found.tensors.keys())
        kinds: tuple[tuple[Label, dict], ...] = (
            ("energy", found.numbers), ("forces", found.vectors), ("stress", found.tensors)
        )  # fmt: skip
        for label, values in kinds:
            likely = [name for name in values if _is_likely(name, label)]
            for i, first in enumerate(likely):
                for second in likely[:i]:
                    if not np.allclose(values[first], values[second], rtol=0, atol=_SAME):
                        self.differ.add(frozenset((first, second)))
        return found

    def energy(self, given: str | None) -> str:
        """The name of the energy: the one that is given, or else the only likely one.

        Raises:
            ValueError: no frame stores the name, none looks like the label, or several do and
                hold different numbers.
        """
        found = self._one("energy", given, self.numbers)
        if found is None:
            raise ValueError(self._lacking("energy", self.numbers))
        return found

    def target(self, given: str) -> str:
        """The name of another number per structure, as the user gives it.

        Raises:
            ValueError: no frame stores it.
        """
        if not self.numbers[given]:
            raise ValueError(
                f"target_key={given}: no frame stores that; {_there('energy', self.numbers)}"
            )
        return given

    def forces(self, given: str | None, wanted: bool) -> str | None:
        """As `energy`; None, unless they are wanted, where frames store no vectors of atoms."""
        found = self._one("forces", given, self.vectors)
        if found is None and (wanted or self.vectors):
            energies = "" if wanted else ", else labels=energy"
            raise ValueError(self._lacking("forces", self.vectors) + energies)
        return found

    def stress(self, given: str | None, wanted: bool) -> str | None:
        """As `energy`; None, unless it is wanted, where nothing looks like one."""
        found = self._one("stress", given, self.tensors)
        if found is None and wanted:
            raise ValueError(self._lacking("stress", self.tensors))
        return found

    def _one(self, label: Label, given: str | None, found: Counter[str]) -> str | None:
        if given is not None:
            if not found[given]:
                raise ValueError(
                    f"{label}_key={given}: no frame stores that; {_there(label, found)}"
                )
            return given
        likely = sorted(
            (name for name in found if _is_likely(name, label)),
            key=lambda name: (-found[name], name != label, name),
        )
        for other in likely[1:]:
            if frozenset((likely[0], other)) in self.differ:
                raise ValueError(
                    f"frames store {likely[0]!r} and {other!r}, and they differ: say which are "
                    f"the labels, {label}_key={likely[0]} or {label}_key={other}"
                )
        return likely[0] if likely else None

    @staticmethod
    def _lacking(label: Label, found: Counter[str]) -> str:
        return (
            f"no frame has {label} that could be learned: {_there(label, found)}. If one of them "
            f"is meant, give {label}_key=NAME"
        )


def stored(atoms: Atoms, name: str) -> Any:
    """What a frame stores under a name, in its calculator, ``info`` or per-atom arrays; or None."""
    results = {} if atoms.calc is None else atoms.calc.results
    for place in (results, atoms.info, atoms.arrays):
        if place.get(name) is not None:
            return place[name]
    return None


def as_voigt(stress: Any) -> np.ndarray:
    """[6] in Voigt's order, of six or nine numbers."""
    array = np.asarray(stress, np.float64)
    return array.ravel() if array.size == 6 else full_3x3_to_voigt_6_stress(array.reshape(3, 3))


def _there(label: Label, found: Counter[str]) -> str:
    return f"the {_KINDS[label]} stored with frames are {_shown(found)}"


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
    if name in _NO_FORCES or name in ("cell", "stress"):
        return None
    array = np.asarray(stored(atoms, name))
    return array if array.shape == (len(atoms), 3) and array.dtype.kind == "f" else None


def _tensor(atoms: Atoms, name: str) -> np.ndarray | None:
    if name in atoms.arrays:
        return None
    array = np.asarray(stored(atoms, name))
    fits = array.dtype.kind == "f" and array.shape in ((6,), (9,), (3, 3))
    return as_voigt(array) if fits else None


def _is_likely(name: str, label: Label) -> bool:
    low = name.lower()
    if "virial" in low:
        return False
    return label.removesuffix("s" if label == "forces" else "") in low and (
        name == label or looks_like_label(name)
    )


def _shown(found: Counter[str]) -> str:
    return listed(sorted(found), _SHOWN) if found else "none"
