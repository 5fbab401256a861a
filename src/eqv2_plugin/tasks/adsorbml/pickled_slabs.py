"""Slabs and adsorbates made of plain data, and of a pickle whose classes are not called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.constraints
import numpy as np
from ase import Atoms

from eqv2_plugin.unpickling.arrays import NumpyArray
from eqv2_plugin.unpickling.restricted import SLABS, PickledObject, restricted_loads

if TYPE_CHECKING:
    from fairchem.data.oc.core import Adsorbate, Slab

CONSTRAINTS = ("FixAtoms", "FixCartesian", "FixScaled", "FixedPlane", "FixedLine")
_MAX_DEPTH = 12  # of objects and containers


def load_pickle(path: Path) -> Any:
    """What fairchem's AdsorbML pickle holds; of its classes nothing is called.

    Slabs and adsorbates become fairchem-data-oc's own, atoms keep positions, cell, further arrays
    and constraints (of ``CONSTRAINTS``), and lose calculators.

    Raises:
        ValueError: a damaged pickle, one that names anything else, or atoms that are none.
    """
    return _made(restricted_loads(path.read_bytes(), SLABS, "input of AdsorbML"), {})


def make_slab(atoms: Atoms, **known: Any) -> Slab:
    """fairchem-data-oc's slab; its constructor would check what `read_input` has checked."""
    from fairchem.data.oc.core import Slab

    slab = Slab.__new__(Slab)
    names = ("bulk", "millers", "shift", "top", "oriented_bulk")
    slab.__dict__.update({"atoms": atoms, **{name: known.get(name) for name in names}})
    return slab


def make_atoms(arrays: Mapping[str, np.ndarray], cell: Any, pbc: Any) -> Atoms:
    """Atoms of plain arrays, refused if they do not fit or hold numbers of no element."""
    numbers, positions = arrays.get("numbers"), arrays.get("positions")
    whole = numbers is not None and numbers.dtype.kind in "iu" and numbers.ndim == 1
    if not whole or positions is None or positions.shape != (len(numbers), 3):
        raise ValueError("atoms without numbers and positions of the same length")
    if not ((numbers > 0) & (numbers < len(ase.data.chemical_symbols))).all():
        raise ValueError("a number that no element has")
    if not np.isfinite(np.asarray(positions, float)).all():
        raise ValueError("positions that are not finite")
    atoms = Atoms(numbers, positions, cell=np.asarray(cell, float), pbc=pbc)
    for name in arrays.keys() - {"numbers", "positions"}:
        atoms.set_array(str(name), arrays[name])
    return atoms


def _made(value: Any, done: dict[int, Any], depth: int = 0) -> Any:
    """The value with stand-ins replaced; those of classes that nobody needs stay.

    What occurs in many places is made once, as it is stored once: a small file may hold
    containers that hold each other many times over.
    """
    if depth > _MAX_DEPTH:
        raise ValueError(f"objects in more than {_MAX_DEPTH} levels")
    if id(value) not in done:
        done[id(value)] = _make(value, lambda inner: _made(inner, done, depth + 1))
    return done[id(value)]


def _make(value: Any, made: Callable[[Any], Any]) -> Any:
    if isinstance(value, NumpyArray):
        return value.value
    if isinstance(value, dict):
        return {key: made(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [made(item) for item in value]
    if not isinstance(value, PickledObject):
        return value
    if value.kind in CONSTRAINTS:
        return _constraint(value.kind, made(value.state))
    make = _MAKERS.get(value.kind)
    return value if make is None else make(lambda name: made(value.state.get(name)))


def _atoms(get: Callable[[str], Any]) -> Atoms:
    arrays, cell, pbc = get("arrays"), get("_cellobj"), get("_pbc")
    if not isinstance(arrays, dict) or not all(isinstance(a, np.ndarray) for a in arrays.values()):
        raise ValueError("atoms whose arrays are none")
    cell = get("_cell") if cell is None else cell
    if not isinstance(cell, np.ndarray) or cell.shape != (3, 3):
        raise ValueError("atoms without a cell of three vectors")
    atoms = make_atoms(arrays, cell, False if pbc is None else pbc)
    constraints = get("_constraints") or []
    kinds = {type(one).__name__ for one in constraints} if isinstance(constraints, list) else {""}
    if kinds - set(CONSTRAINTS):
        raise ValueError(f"a constraint that is none of {', '.join(CONSTRAINTS)}")
    atoms.set_constraint(constraints)
    return atoms


def _constraint(name: str, state: dict[str, Any]) -> Any:
    if not isinstance(state.get("index"), np.ndarray):
        raise ValueError(f"{name} without indices")
    kind = getattr(ase.constraints, name)
    made = kind.__new__(kind)
    made.__dict__.update(state)
    return made


def _slab(get: Callable[[str], Any]) -> Slab:
    from fairchem.data.oc.core import Bulk

    atoms, bulk = get("atoms"), get("bulk")
    if not isinstance(atoms, Atoms):
        raise ValueError("a slab without atoms")
    known = {name: _simple(get(name)) for name in ("millers", "shift", "top")}
    return make_slab(atoms, bulk=bulk if isinstance(bulk, Bulk) else None, **known)


def _bulk(get: Callable[[str], Any]) -> Any:
    from fairchem.data.oc.core import Bulk

    bulk, atoms = Bulk.__new__(Bulk), get("atoms")
    bulk.atoms = atoms if isinstance(atoms, Atoms) else None
    bulk.src_id, bulk.bulk_id_from_db = _simple(get("src_id")), _simple(get("bulk_id_from_db"))
    return bulk


def _adsorbate(get: Callable[[str], Any]) -> Adsorbate:
    from fairchem.data.oc.core import Adsorbate

    atoms, binding = get("atoms"), get("binding_indices")
    if not isinstance(atoms, Atoms) or binding is None:
        raise ValueError("an adsorbate without atoms or binding atoms")
    made = Adsorbate(adsorbate_atoms=atoms, adsorbate_binding_indices=binding)
    for name in ("smiles", "reaction_string", "adsorbate_id_from_db"):
        if (value := get(name)) is not None:
            setattr(made, name, _simple(value))
    return made


def _simple(value: Any) -> Any:
    """A number, a text or a tuple of them; what else a slab knows of its origin is dropped."""
    simple = (bool, int, float, str)
    if isinstance(value, (list, tuple)) and len(value) < 10:
        return tuple(item if isinstance(item, simple) else None for item in value)
    return value if isinstance(value, simple) else None


_MAKERS: dict[str, Callable[[Callable[[str], Any]], Any]] = {
    "Atoms": _atoms,
    "Cell": lambda get: get("array"),
    "Slab": _slab,
    "Bulk": _bulk,
    "Adsorbate": _adsorbate,
}
