"""The input of AdsorbML runs, fairchem's and ours: slabs and adsorbates.

As JSON (`slab_json`), or as the pickle that fairchem's ``AdsorbMLRunner`` wants: ``{system:
{"slab_initial": Slab, "slab_relax": Slab, "adsorbate": SMILES, "min_dft_ads_energy": eV}}``.
"""

from __future__ import annotations

import math
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms

from eqv2_plugin.common.files import atomic_write
from eqv2_plugin.tasks.adsorbml.adsorbates import adsorbate_list, check_packages, check_smiles
from eqv2_plugin.tasks.adsorbml.pickled_slabs import load_pickle
from eqv2_plugin.tasks.adsorbml.slab_json import SUFFIX, load_json, save_json
from eqv2_plugin.tasks.adsorbml.slabs import prepare_relaxed, prepare_slab

if TYPE_CHECKING:
    from fairchem.data.oc.core import Adsorbate

KEYS = ("slab_initial", "slab_relax", "adsorbate", "min_dft_ads_energy")


@dataclass(frozen=True)
class SlabFile:
    """A clean slab that systems are made of."""

    name: str  # becomes part of the systems' ids
    initial: Atoms  # as it was cut, or as DFT started from it
    # By DFT, without adsorbate: a surface has changed by comparison with it (None: with `initial`).
    relaxed: Atoms | None = None
    bulk: Atoms | None = None  # for finding surface atoms by coordination


@dataclass(frozen=True)
class System:
    """One adsorbate on one surface."""

    id: str  # unique
    initial: Atoms  # clean slab, tagged and with constraints
    relaxed: Atoms  # clean relaxed slab
    adsorbates: tuple[Adsorbate, ...]  # one or more, all of them on the slab at the same time
    target: float  # lowest DFT adsorption energy in eV; NaN if unknown


def system_id(slab: str, smiles: str) -> str:
    """Such as "Pt111_CO". Without their asterisks all known SMILES still differ."""
    return f"{slab}_{smiles.replace('*', '')}"


def build_input(
    slabs: Sequence[SlabFile], smiles: Sequence[str], minima: Mapping[str, float] | None = None
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Every adsorbate (SMILES) on every slab, and notes on what was done to the slabs.

    ``minima`` are {system id: lowest DFT adsorption energy, eV}.

    Raises:
        ValueError: two slabs of one name, an adsorbate that is unknown or given twice, a slab
            that is none, or a minimum of a system that is not there.
        MissingCatalysisError: fairchem-data-oc is not installed.
    """
    check_smiles(smiles)
    from fairchem.data.oc.core import Slab

    for kind, names in (("slab", [slab.name for slab in slabs]), ("adsorbate", list(smiles))):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the {kind} {twice[0]} is given twice; ids must differ")
        if not names:
            raise ValueError(f"no {kind} given")
    content: dict[str, dict[str, Any]] = {}
    notes = []
    for slab in slabs:
        prepared = prepare_slab(slab.initial, slab.name, slab.bulk)
        relaxed = prepared.atoms
        if slab.relaxed is not None:
            relaxed = prepare_relaxed(prepared, slab.relaxed, slab.name)
        notes += [f"{slab.name}: {note}" for note in prepared.notes]
        for one in smiles:
            content[system_id(slab.name, one)] = {
                "slab_initial": Slab(slab_atoms=prepared.atoms.copy()),
                "slab_relax": Slab(slab_atoms=relaxed.copy()),
                "adsorbate": one,
                "min_dft_ads_energy": math.nan,
            }
    for key, energy in (minima or {}).items():
        if key not in content:
            raise ValueError(
                f"there is an energy for {key}, which is not among the systems "
                f"{', '.join(sorted(content))}"
            )
        content[key]["min_dft_ads_energy"] = float(energy)
    return content, notes


def write_input(path: Path, content: Mapping[str, Any]) -> None:
    """Write the input, as JSON (``.json``) or as fairchem's pickle (other names)."""
    if path.suffix == SUFFIX:
        save_json(path, content)
        return
    with atomic_write(path) as building, building.open("wb") as file:
        pickle.dump(dict(content), file)


def read_input(path: Path) -> list[System]:
    """The systems of an input file of either form, checked before anything is calculated.

    Raises:
        ValueError: a file that is none, a missing key, a slab without surface tags, or an unknown
            adsorbate.
        MissingCatalysisError: fairchem-data-oc is not installed.
    """
    return [_system(path, str(key), entry) for key, entry in read_content(path).items()]


def read_content(path: Path) -> dict[str, dict[str, Any]]:
    """The content of an input file, with slabs and adsorbates as fairchem's runner knows them.

    A pickle is read with the classes that it needs, and nothing of it is called.
    """
    check_packages()
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: make it with `eqv2 adsorbml input`")
    with path.open("rb") as file:
        pickled = file.read(1) not in (b"{", b" ", b"\n")
    try:
        content = load_pickle(path) if pickled else load_json(path)
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read as the input of AdsorbML ({error}): make it with "
            "`eqv2 adsorbml input`"
        ) from error
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} holds no systems: make it with `eqv2 adsorbml input`")
    return content


def _system(path: Path, key: str, entry: Any) -> System:
    where = f"{path}, system {key}"
    missing = [name for name in KEYS if not isinstance(entry, dict) or name not in entry]
    if missing:
        raise ValueError(f"{where}: no {', '.join(missing)}; each system needs {', '.join(KEYS)}")
    if not re.fullmatch(r"[^/\\\0.][^/\\\0]*", key):
        raise ValueError(f"{where}: an id names a file, and cannot be {key!r}")
    energy = entry["min_dft_ads_energy"]
    try:
        adsorbates = tuple(adsorbate_list(entry["adsorbate"]))
        target = math.nan if energy is None else float(energy)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    initial = _slab(entry["slab_initial"], f"{where}, slab_initial")
    relaxed = initial
    if entry["slab_relax"] is not None:
        relaxed = _slab(entry["slab_relax"], f"{where}, slab_relax")
    if len(initial) != len(relaxed):
        raise ValueError(f"{where}: slab_initial and slab_relax differ in their number of atoms")
    return System(key, initial, relaxed, adsorbates, target)


def _slab(value: Any, where: str) -> Atoms:
    atoms = getattr(value, "atoms", None)
    if not isinstance(atoms, Atoms):
        raise ValueError(f"{where} is {type(value).__name__}, not a Slab of fairchem-data-oc")
    if not (atoms.get_tags() == 1).any():
        raise ValueError(
            f"{where} has no surface atoms (tag 1): make it with `eqv2 adsorbml input`"
        )
    return atoms
