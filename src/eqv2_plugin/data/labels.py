"""The one reader of labels: energy, forces and stress as the calculator's results hold them.

fairchem's ``AtomicData.from_ase`` prefers ``atoms.info["energy"]``, ``["forces"]`` and
``["stress"]`` (``data=`` of an ASE database) to the calculator's results; where the two differ,
nobody can know which was meant, so that every command and runner refuses by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from eqv2_plugin.common.options import did_you_mean

LABELS = ("energy", "forces", "stress")
# One number per structure that is no energy, whatever it is called where it is stored.
SCALAR = "scalar"
# Which of them a model is trained on, as configs say it.
LABEL_SETS = {
    "energy": ("energy",),
    "energy_forces": ("energy", "forces"),
    "energy_forces_stress": LABELS,
    SCALAR: (SCALAR,),
}
READ_FROM = "labels are the results energy, forces and stress of the calculator"

# What float32 leaves of a copy, of the largest number; and what six or eight decimals leave of it.
_FLOAT32 = 1e-7
_DECIMALS = {"energy": 1e-6, "forces": 1e-6, "stress": 1e-8}
_WHAT = r"(energy|forces?|stress|virials?)"
_WHOSE = r"(dft|vasp|qm|target|label|true|total|potential|corrected)"
# MACE's REF_energy is a label, OC20's ref_energy what was subtracted from one.
_LABEL_LIKE = re.compile(
    rf"REF_?{_WHAT}|(?i:{_WHOSE}[_-]?{_WHAT}|{_WHAT}[_-]?{_WHOSE}|force|virials?|virial_stress)"
)


def label_set(name: str) -> tuple[str, ...]:
    """The labels that a key of ``LABEL_SETS`` stands for.

    Raises:
        ValueError: there is no such key.
    """
    if name not in LABEL_SETS:
        raise ValueError(
            f"labels={name}: that is no set of labels{did_you_mean(str(name), LABEL_SETS)}"
        )
    return LABEL_SETS[name]


class LabelError(ValueError):
    """Labels of a structure that contradict each other, or have a wrong shape."""


@dataclass(frozen=True)
class Labels:
    """Labels of one structure and what else looks like one."""

    energy: float | None  # eV; None without label, as the others
    forces: np.ndarray | None  # [atoms, 3] eV/Å, raw also on fixed atoms
    stress: np.ndarray | None  # [3, 3] eV/Å^3, positive under tension, as ASE has it
    doubles: tuple[str, ...]  # labels that ``atoms.info`` holds as well, with the same numbers
    conflicts: tuple[str, ...]  # sentences on labels that it holds with other numbers, or alone
    unread: tuple[str, ...]  # names of what looks like a label and is not read


def read_labels(atoms: Atoms, where: str) -> Labels:
    """The labels in the results of a structure's calculator, whatever its class.

    Raises:
        LabelError: a label of a wrong shape, or one that ``atoms.info`` holds with other
            numbers or that stands there only; begins with ``where``.
    """
    found = look_at_labels(atoms, where)
    if found.conflicts:
        raise LabelError(f"{where}: {found.conflicts[0]}")
    return found


def look_at_labels(atoms: Atoms, where: str) -> Labels:
    """As `read_labels`, but conflicts are listed and raise nothing."""
    results = {} if atoms.calc is None else atoms.calc.results
    try:
        labels = {name: _label(name, results, len(atoms)) for name in LABELS}
    except ValueError as error:
        raise LabelError(f"{where}: {error}") from error
    doubles, conflicts = [], []
    for name in LABELS:
        if atoms.info.get(name) is None:
            continue
        there = f"atoms.info (data of an ASE database row) holds {name!r}"
        try:
            in_info = _label(name, atoms.info, len(atoms))
        except ValueError as error:
            conflicts.append(f"{there}, but {error}: rename or remove it")
            continue
        if _same(labels[name], in_info, _DECIMALS[name]):
            doubles.append(name)
        else:
            conflicts.append(f"{there} {_difference(in_info, labels[name])}")
    return Labels(
        **labels,
        doubles=tuple(doubles),
        conflicts=tuple(conflicts),
        unread=_unread(atoms, results, labels["energy"]),
    )


def drop_info_labels(info: dict[str, Any]) -> None:
    """Take the labels' names out of ``atoms.info``, where fairchem would prefer them; in place.

    What stands there must have gone through `read_labels`, or be no label of anything (as in
    structures without calculator that are predicted).
    """
    for name in LABELS:
        info.pop(name, None)


@cache
def looks_like_label(name: str) -> bool:
    """Whether a stored name suggests a label under another name than the ones that are read."""
    return _LABEL_LIKE.fullmatch(name) is not None


def _label(name: str, results: Mapping[str, Any], count: int) -> Any:
    value = results.get(name)
    if value is None:
        return None
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"its {name} is not made of numbers: {value!r}") from error
    if name == "energy" and array.size == 1:
        return float(array.reshape(()))
    if name == "forces" and array.shape == (count, 3):
        return array
    if name == "stress" and array.size == 6:
        return voigt_6_to_full_3x3_stress(array.reshape(6))
    if name == "stress" and array.size == 9:
        return array.reshape(3, 3)
    wanted = {"energy": "one number", "forces": f"({count}, 3)", "stress": "(3, 3) or (6,)"}
    raise ValueError(f"its {name} has the shape {array.shape}, not {wanted[name]}")


def _same(label: Any, other: Any, decimals: float) -> bool:
    if label is None or other is None:
        return False
    a, b = np.asarray(label), np.asarray(other)
    scale = np.nanmax(np.abs(a), initial=0.0)
    return bool(np.allclose(a, b, rtol=0.0, atol=_FLOAT32 * scale + decimals, equal_nan=True))


def _difference(in_info: Any, label: Any) -> str:
    if label is None:
        return (
            f"({_shown(in_info)}), the calculator none: store it as result of a "
            "SinglePointCalculator if it is the label, otherwise rename or remove it"
        )
    return (
        f"({_shown(in_info)}) beside the calculator's ({_shown(label)}), and they differ: "
        "remove or rename the wrong one"
    )


def _shown(value: Any) -> str:
    array = np.asarray(value)
    return f"{array:.10g}" if array.ndim == 0 else f"up to {np.abs(array).max():.6g}"


def _unread(atoms: Atoms, results: Mapping[str, Any], energy: float | None) -> tuple[str, ...]:
    """Names in info, per-atom arrays and results that look like labels."""
    names = {str(n) for n in (*atoms.info, *atoms.arrays, *results) if looks_like_label(str(n))}
    names |= {name for name in LABELS if name in atoms.arrays}
    if energy is None and ("free_energy" in results or "free_energy" in atoms.info):
        names.add("free_energy")
    return tuple(sorted(names))
