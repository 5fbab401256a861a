"""Slabs and adsorbates of a pickle made anew, of the data that stand-ins hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.constraints
import numpy as np
from ase import Atoms

from eqv2_plugin.unpickling.arrays import NumpyArray
from eqv2_plugin.unpickling.restricted import restricted_loads
from eqv2_plugin.unpickling.stand_ins import PickledObject
from eqv2_plugin.unpickling.whitelists import SLABS

if TYPE_CHECKING:
    from fairchem.data.oc.core import Adsorbate, Slab

CONSTRAINTS = ("FixAtoms", "FixCartesian", "FixScaled", "FixedPlane", "FixedLine")


def load_pickle(path: Path) -> Any:
    """What fairchem's AdsorbML pickle holds; of its classes nothing is called.

    Slabs and adsorbates become fairchem-data-oc's own, atoms keep positions, cell, further arrays
    and constraints (of ``CONSTRAINTS``), and lose calculators.

    Raises:
        ValueError: a damaged pickle, one that names anything else, or atoms that are none.
    """
    return _made(restricted_loads(path.read_bytes(), SLABS, "input of AdsorbML"))


def make_slab(atoms: Atoms, **known: Any) -> Slab:
    """fairchem-data-oc's slab around atoms that are prepared already.

    Its constructor would check what `read_input` checks, with other words.
    """
    from fairchem.data.oc.core import Slab

    slab = Slab.__new__(Slab)
    names = ("bulk", "millers", "shift", "top", "oriented_bulk")
    slab.__dict__.update({"atoms": atoms, **{name: known.get(name) for name in names}})
    return slab


def make_atoms(arrays: dict[str, np.ndarray], cell: Any, pbc: Any) -> Atoms:
    """Atoms of plain arrays.

    Raises:
        ValueError: numbers that are no atomic numbers, or arrays that do not fit.
    """
    numbers, positions = arrays.get("numbers"), arrays.get("positions")
    whole = numbers is not None and numbers.dtype.kind in "iu" and numbers.ndim == 1
    if not whole or positions is None or positions.shape != (len(numbers), 3):
        raise ValueError("atoms without numbers and positions of the same length")
    if not ((numbers > 0) & (numbers < len(ase.data.chemical_symbols))).all():
        raise ValueError("a number that no element has")
    if not np.isfinite(np.asarray(positions, float)).all():
        raise ValueError("positions that are not finite")
    atoms = Atoms(numbers, positions, cell=np.asarray(cell, float), pbc=pbc)
    for name, array in arrays.items():
        if name not in ("numbers", "positions"):
            atoms.set_array(str(name), array)
    return atoms


def _made(value: Any, depth: int = 0) -> Any:
    if depth > 10:
        raise ValueError("containers in more than ten levels")
    if isinstance(value, NumpyArray):
        return value.value
    if isinstance(value, dict):
        return {key: _made(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_made(item, depth + 1) for item in value]
    if not isinstance(value, PickledObject):
        return value
    state = value.state
    if value.kind == "Atoms":
        return _atoms(state)
    if value.kind == "Slab":
        return _slab(state)
    if value.kind == "Adsorbate":
        return _adsorbate(state)
    return value


def _atoms(state: dict[str, Any]) -> Atoms:
    stored = {name: _made(array) for name, array in dict(state.get("arrays") or {}).items()}
    if not all(isinstance(array, np.ndarray) for array in stored.values()):
        raise ValueError("atoms whose arrays are none")
    cell = state.get("_cellobj", state.get("_cell"))
    cell = _made(cell.state.get("array")) if isinstance(cell, PickledObject) else _made(cell)
    if not isinstance(cell, np.ndarray) or cell.shape != (3, 3):
        raise ValueError("atoms without a cell of three vectors")
    atoms = make_atoms(stored, cell, _made(state.get("_pbc", False)))
    atoms.set_constraint([_constraint(one) for one in state.get("_constraints") or ()])
    return atoms


def _constraint(stored: Any) -> Any:
    if not isinstance(stored, PickledObject) or stored.kind not in CONSTRAINTS:
        raise ValueError(f"a constraint that is none of {', '.join(CONSTRAINTS)}")
    kind = getattr(ase.constraints, stored.kind)
    made = kind.__new__(kind)
    state = {name: _made(value) for name, value in stored.state.items()}
    if not isinstance(state.get("index"), np.ndarray):
        raise ValueError(f"{stored.kind} without indices")
    made.__dict__.update(state)
    return made


def _slab(state: dict[str, Any]) -> Any:
    atoms = state.get("atoms")
    if not isinstance(atoms, PickledObject) or atoms.kind != "Atoms":
        raise ValueError("a slab without atoms")
    known = {name: _simple(state.get(name)) for name in ("millers", "shift", "top")}
    return make_slab(_atoms(atoms.state), bulk=_bulk(state.get("bulk")), **known)


def _bulk(stored: Any) -> Any:
    if not isinstance(stored, PickledObject) or stored.kind != "Bulk":
        return None
    from fairchem.data.oc.core import Bulk

    bulk = Bulk.__new__(Bulk)
    atoms = stored.state.get("atoms")
    bulk.atoms = _atoms(atoms.state) if isinstance(atoms, PickledObject) else None
    bulk.src_id = _simple(stored.state.get("src_id"))
    bulk.bulk_id_from_db = _simple(stored.state.get("bulk_id_from_db"))
    return bulk


def _adsorbate(state: dict[str, Any]) -> Adsorbate:
    from fairchem.data.oc.core import Adsorbate

    atoms, binding = state.get("atoms"), _made(state.get("binding_indices"))
    if not isinstance(atoms, PickledObject) or binding is None:
        raise ValueError("an adsorbate without atoms or binding atoms")
    made = Adsorbate(adsorbate_atoms=_atoms(atoms.state), adsorbate_binding_indices=binding)
    for name in ("smiles", "reaction_string", "adsorbate_id_from_db"):
        if name in state:
            setattr(made, name, _simple(state[name]))
    return made


def _simple(value: Any) -> Any:
    """A number, a text or a tuple of them; what else a slab knows of its origin is dropped."""
    if isinstance(value, (list, tuple)) and len(value) < 10:
        return tuple(_simple(item) for item in value)
    return value if isinstance(value, (bool, int, float, str)) else None
