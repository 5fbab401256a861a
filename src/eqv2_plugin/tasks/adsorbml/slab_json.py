"""AdsorbML's input as JSON: slabs once, and the systems that are made of them.

``{"format": "eqv2_plugin AdsorbML input", "version": 1, "slabs": [ATOMS, ...], "systems": {id:
{"slab_initial": number, "slab_relax": number or null, "adsorbate": SMILES or a list of them,
"min_dft_ads_energy": eV or null}}}``, with ATOMS ``{"numbers", "positions" (Å), "cell" (Å), "pbc",
"tags", "constraints"}``. Numbers are written so that they are read back with the same bits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ase.constraints
import numpy as np
from ase import Atoms

from eqv2_plugin.common.files import save_text
from eqv2_plugin.tasks.adsorbml.pickled_slabs import CONSTRAINTS, make_atoms, make_slab

SUFFIX = ".json"
_FORMAT, _VERSION = "eqv2_plugin AdsorbML input", 1
_SLAB_KEYS = ("slab_initial", "slab_relax")
_ATOMS_KEYS = {"numbers", "positions", "cell", "pbc", "tags", "constraints"}


def save_json(path: Path, content: Mapping[str, Mapping[str, Any]]) -> None:
    """Write systems as `build_input` makes them; what has no place here is refused."""
    slabs: list[dict[str, Any]] = []
    systems: dict[str, dict[str, Any]] = {}
    for key, entry in content.items():
        smiles, energy = entry["adsorbate"], float(entry["min_dft_ads_energy"])
        if not all(isinstance(s, str) for s in (smiles if isinstance(smiles, list) else [smiles])):
            raise ValueError(f"{key}: the JSON form holds adsorbates by SMILES; write a .pkl file")
        systems[key] = {
            "adsorbate": smiles,
            "min_dft_ads_energy": energy if math.isfinite(energy) else None,
        }
        for name in _SLAB_KEYS:
            number = None
            if entry[name] is not None:
                described = _described(entry[name].atoms, f"{key}, {name}")
                if described not in slabs:
                    slabs.append(described)
                number = slabs.index(described)
            systems[key][name] = number
    whole = {"format": _FORMAT, "version": _VERSION, "slabs": slabs, "systems": systems}
    save_text(path, json.dumps(whole, allow_nan=False) + "\n")


def load_json(path: Path) -> dict[str, dict[str, Any]]:
    """The systems of a file, with slabs of fairchem-data-oc."""
    try:
        whole = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from error
    if not isinstance(whole, dict) or whole.get("format") != _FORMAT:
        raise ValueError(f"its format is not {_FORMAT!r}")
    if whole.get("version") != _VERSION:
        raise ValueError(f"version {whole.get('version')!r}; this eqv2_plugin reads {_VERSION}")
    slabs, systems = whole.get("slabs"), whole.get("systems")
    if not isinstance(slabs, list) or not isinstance(systems, dict):
        raise ValueError("it must have a list of slabs, and systems by name")
    atoms = [_atoms(described, f"slab {number}") for number, described in enumerate(slabs)]
    return {key: _entry(entry, atoms, key) for key, entry in systems.items()}


def _entry(entry: Any, atoms: list[Atoms], key: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ValueError(f"system {key} is no object")
    made = dict(entry)
    for name in _SLAB_KEYS:
        number = entry.get(name)
        if number is not None:
            if type(number) is not int or not 0 <= number < len(atoms):
                raise ValueError(f"system {key}: {name}={number!r}, but there are {len(atoms)}")
            made[name] = make_slab(atoms[number].copy())
    if made.get("min_dft_ads_energy", 0.0) is None:
        made["min_dft_ads_energy"] = math.nan
    return made


def _described(atoms: Atoms, where: str) -> dict[str, Any]:
    constraints = [constraint.todict() for constraint in atoms.constraints]
    for constraint in constraints:
        if constraint["name"] not in CONSTRAINTS:
            raise ValueError(f"{where}: the constraint {constraint['name']} cannot be written")
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": atoms.pbc.tolist(),
        "tags": atoms.get_tags().tolist(),
        "constraints": json.loads(json.dumps(constraints, default=lambda array: array.tolist())),
    }


def _atoms(described: Any, where: str) -> Atoms:
    if not isinstance(described, dict) or set(described) != _ATOMS_KEYS:
        raise ValueError(f"{where} must have {', '.join(sorted(_ATOMS_KEYS))}, and nothing else")
    try:
        arrays = {name: np.array(described[name]) for name in ("numbers", "positions", "tags")}
        cell = np.array(described["cell"], float)
        if arrays["tags"].dtype.kind != "i" or cell.shape != (3, 3) or len(described["pbc"]) != 3:
            raise ValueError("tags must be whole numbers, the cell 3 vectors, and pbc 3 flags")
        atoms = make_atoms(arrays, cell, described["pbc"])
        atoms.set_constraint([_constraint(one) for one in described["constraints"]])
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{where}: {error}") from error
    return atoms


def _constraint(described: Any) -> Any:
    name = described["name"]
    if name not in CONSTRAINTS:
        raise ValueError(f"the constraint {str(name)[:80]!r} is none of {', '.join(CONSTRAINTS)}")
    return getattr(ase.constraints, name)(**described["kwargs"])
