"""One stored structure: the pickled ``Data`` of any vintage as checked numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.data import chemical_symbols

from eqv2_plugin.unpickling.arrays import NumpyArray
from eqv2_plugin.unpickling.restricted import PickledObject, restricted_loads

ENERGIES = ("energy", "y_init", "y_relaxed")
VECTORS = ("forces", "pos_relaxed")
COUNTS = ("nads", "oc22")
# Names before fairchem-core 1, for the same labels.
ALIASES = {"y": "energy", "force": "forces"}


@dataclass(slots=True)
class Record:
    """One structure. Positions and vectors keep the dtype they were stored in."""

    positions: np.ndarray  # [n, 3] in Å, as stored (atoms may lie outside the cell)
    numbers: np.ndarray  # [n] int64
    cell: np.ndarray  # [3, 3] in Å, rows are the vectors
    pbc: np.ndarray  # [3] bool; True where the record has none, as in all of OC20 and OC22
    tags: np.ndarray  # [n] int64; zeros where the record has none, as in ASE
    fixed: np.ndarray  # [n] int64, 1 for fixed atoms; zeros where the record has none
    has_fixed: bool  # whether the record has it
    sid: str | None  # if stored; "random1234567" of the download is 1234567
    fid: int | None  # if stored
    energies: dict[str, float]  # those of ``ENERGIES`` that are stored, eV
    vectors: dict[str, np.ndarray]  # those of ``VECTORS`` that are stored, [n, 3], eV/Å or Å
    counts: dict[str, int]  # those of ``COUNTS`` that are stored


def read_record(pickled: bytes) -> Record:
    """Read what fairchem-core 1 and its predecessors pickled for one structure.

    ``y`` and ``force`` are read as ``energy`` and ``forces``. Stored edges are left out: models
    find the neighbours themselves.

    Raises:
        ValueError: not such a pickle, an attribute missing, or of the wrong shape.
    """
    stored = stored_attributes(pickled)
    for old, new in ALIASES.items():
        if old in stored and new in stored:
            raise ValueError(f"it has both {old!r} and {new!r}, two names of one label")
    stored = {ALIASES.get(name, name): value for name, value in stored.items()}
    numbers = _whole(_array(stored, "atomic_numbers", None), "atomic_numbers")
    n = len(numbers)
    if n == 0:
        raise ValueError("it has no atoms")
    _within(numbers, "atomic_numbers", 1, len(chemical_symbols) - 1)
    positions = _array(stored, "pos", (n, 3))
    if "natoms" in stored and _whole_number(stored, "natoms") != n:
        raise ValueError(f"natoms={stored['natoms']} for {n} atomic numbers")
    fixed = _per_atom(stored, "fixed", n)
    _within(fixed, "fixed", 0, 1)
    return Record(
        positions=positions,
        numbers=numbers,
        cell=_array(stored, "cell", (3, 3)),
        pbc=_flags(stored, "pbc", 3) if "pbc" in stored else np.ones(3, bool),
        tags=_per_atom(stored, "tags", n),
        fixed=fixed,
        has_fixed="fixed" in stored,
        sid=_sid(stored),
        fid=_whole_number(stored, "fid") if "fid" in stored else None,
        energies={name: float(_number(stored, name)) for name in ENERGIES if name in stored},
        vectors={name: _array(stored, name, (n, 3)) for name in VECTORS if name in stored},
        counts={name: _whole_number(stored, name) for name in COUNTS if name in stored},
    )


def to_ase(record: Record) -> Atoms:
    """The record as ASE atoms: all that is stored, float64, in Å, eV and eV/Å.

    Energy and raw forces (of fixed atoms as well) are in a single-point calculator, other labels,
    ``sid`` (str), ``fid`` (int) and counts in ``atoms.info``; ``FixAtoms`` holds fixed atoms.
    """
    info: dict[str, object] = {}
    if record.sid is not None:
        info["sid"] = record.sid
    if record.fid is not None:
        info["fid"] = record.fid
    labels: dict[str, object] = dict(record.energies)
    labels |= {name: vectors.astype(np.float64) for name, vectors in record.vectors.items()}
    results = {name: labels.pop(name) for name in ("energy", "forces") if name in labels}
    atoms = Atoms(
        numbers=record.numbers,
        positions=record.positions.astype(np.float64),
        cell=record.cell.astype(np.float64),
        pbc=record.pbc,
        tags=record.tags,
        constraint=FixAtoms(mask=record.fixed.astype(bool)),
        info={**info, **labels, **record.counts},
    )
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def stored_attributes(pickled: bytes) -> dict[str, Any]:
    """The attributes of a pickled ``Data`` of PyG 1 or 2 that are not None."""
    data = restricted_loads(pickled)
    try:
        state = data.state
        if "_store" in state:  # since PyG 2
            state = state["_store"].state["_mapping"]
    except (AttributeError, KeyError) as error:
        raise ValueError("it is no pickled Data object of PyTorch Geometric") from error
    if any(isinstance(value, PickledObject) for value in state.values()):
        raise ValueError("it holds another object where an array or a number should be")
    return {
        name: value.value if isinstance(value, NumpyArray) else value
        for name, value in state.items()
        if value is not None
    }


def _array(stored: dict[str, Any], name: str, shape: tuple[int, ...] | None) -> np.ndarray:
    """The attribute in this shape (leading ones dropped), or flat with any length."""
    if name not in stored:
        raise ValueError(f"it has no {name!r}")
    array = _numbers(stored[name])
    if array is None:
        raise ValueError(f"{name!r} does not hold numbers")
    if shape is None and array.ndim == 1:
        return array
    if shape is None or array.shape not in (shape, (1, *shape)):
        raise ValueError(f"{name!r} has shape {array.shape}, not {shape or 'one number per atom'}")
    return array.reshape(shape)


def _per_atom(stored: dict[str, Any], name: str, n: int) -> np.ndarray:
    if name not in stored:
        return np.zeros(n, np.int64)
    return _whole(_array(stored, name, (n,)), name)


def _flags(stored: dict[str, Any], name: str, n: int) -> np.ndarray:
    values = _whole(_array(stored, name, (n,)), name)
    _within(values, name, 0, 1)
    return values.astype(bool)


def _numbers(value: Any) -> np.ndarray | None:
    """An array of numbers, or None. Of lists only flat ones: nested ones may have no end."""
    if isinstance(value, (list, tuple)) and not all(type(v) in (bool, int, float) for v in value):
        return None
    array = np.asarray(value)
    return array if array.dtype.kind in "fiub" else None


def _whole(array: np.ndarray, name: str) -> np.ndarray:
    """As int64; a conversion would cut 1.5 to 1, and make some number of NaN."""
    if array.dtype.kind in "ib":
        return array.astype(np.int64)
    with np.errstate(invalid="ignore"):
        whole = array.astype(np.int64)
    same = whole == array
    if not same.all():
        raise ValueError(f"{name!r} must hold whole numbers, and holds {array[~same].flat[0]:g}")
    return whole


def _within(values: np.ndarray, name: str, low: int, high: int) -> None:
    lowest, highest = values.min(), values.max()
    if lowest < low or highest > high:
        bad = lowest if lowest < low else highest
        raise ValueError(f"{name!r} must lie in {low} to {high}, and holds {bad}")


def _number(stored: dict[str, Any], name: str) -> Any:
    value = stored[name]
    if isinstance(value, (int, float)):
        return value
    array = _numbers(value)
    if array is None or array.size != 1:
        raise ValueError(f"{name!r} is not one number")
    return array.item()


def _whole_number(stored: dict[str, Any], name: str) -> int:
    value = _number(stored, name)
    if isinstance(value, int):
        return int(value)
    return int(_whole(np.asarray(value), name))


def _sid(stored: dict[str, Any]) -> str | None:
    sid = stored.get("sid")
    if sid is None or isinstance(sid, str):
        return sid
    return str(_whole_number(stored, "sid"))
