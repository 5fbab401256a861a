"""DFT single points on the best structures: VASP input with OC20's settings, and results."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from eqv2_plugin.common.files import atomic_write
from eqv2_plugin.common.text import listed
from eqv2_plugin.tasks.adsorbml.adsorbates import check_packages
from eqv2_plugin.tasks.adsorbml.analysis import distinct
from eqv2_plugin.tasks.adsorbml.metrics import DftResult
from eqv2_plugin.tasks.adsorbml.results import Candidate, SystemResult, file_name

TABLE = "single_points.csv"
COLUMNS = ("system", "candidate", "energy", "scf_steps", "rank", "predicted_energy", "folder")
STEPS = ("scf_steps", "ionic_steps")
# On top of OC20's settings for slabs with adsorbates, which relax: one ionic step, nothing moves.
SINGLE_POINT = {"nsw": 0, "ibrion": -1}


def chosen(result: SystemResult, k: int, only_distinct: bool) -> list[Candidate]:
    """The k best candidates of a system, or fewer if there are not so many."""
    return distinct(result.ranked(), k) if only_distinct else result.ranked()[:k]


def write_single_points(
    results: Sequence[SystemResult], out: Path, k: int, only_distinct: bool
) -> tuple[int, bool]:
    """Folders ``out/<system>/<rank>_<candidate>`` with INCAR, KPOINTS, POSCAR and ase-sort.dat.

    They hold the k best structures of each system, see `chosen`; ``out`` must be new or empty.
    ``out/single_points.csv`` lists them, with empty columns for what DFT gives; filled, it is
    what `eqv2 adsorbml score --dft` reads. It is written last. POTCAR files are written only
    where ASE finds pseudopotentials (VASP_PP_PATH), as they come with a VASP licence.

    Returns:
        The number of single points, and whether all have a POTCAR.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is not empty: choose another folder, or remove it")
    rows, all_potcars = [], True
    for result in results:
        for rank, best in enumerate(chosen(result, k, only_distinct), start=1):
            folder = Path(file_name(result.system)) / f"{rank}_{best.id}"
            all_potcars &= _write_vasp_input(best.relaxed, out / folder)
            rows.append([result.system, best.id, "", "", rank, best.energy, folder])
    if not rows:
        raise ValueError("no system has a valid structure: there is nothing to calculate")
    with atomic_write(out / TABLE) as building, building.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return len(rows), all_potcars


def _write_vasp_input(atoms: Atoms, folder: Path) -> bool:
    """OC20's settings (RPBE, 350 eV, k-points by cell), NSW 0; returns whether POTCAR is there."""
    check_packages()
    from ase.calculators.vasp import Vasp
    from ase.io.vasp import write_vasp
    from fairchem.data.oc.utils.vasp import calculate_surface_k_points
    from fairchem.data.oc.utils.vasp_flags import VASP_FLAGS

    atoms = atoms.copy()
    if atoms.cell.handedness < 0:
        atoms.set_cell(atoms.cell[[1, 0, 2]])  # VASP wants a right-handed cell
    folder.mkdir(parents=True)
    place = str(folder)
    options = {**VASP_FLAGS, **SINGLE_POINT, "kpts": calculate_surface_k_points(atoms)}
    calculator = Vasp(directory=place, setups="minimal", **options)
    has_potcar = True
    try:
        calculator.initialize(atoms)
    except RuntimeError:  # ASE has sorted the atoms, but found no pseudopotentials for them
        has_potcar = False
    write_vasp(f"{place}/POSCAR", calculator.atoms_sorted, symbol_count=calculator.symbol_count)
    calculator.write_incar(atoms, directory=place)
    calculator.write_kpoints(atoms=atoms, directory=place)
    calculator.write_sort_file(directory=place)
    if has_potcar:
        calculator.write_potcar(directory=place)
    return has_potcar


def read_single_points(
    path: Path, results: Sequence[SystemResult]
) -> dict[tuple[str, str], DftResult]:
    """Columns system, candidate, energy (eV) and, if counted, scf_steps and ionic_steps.

    An empty energy is a calculation that gave none; its steps may be empty, too, and count as 0.
    Other columns are ignored.

    Raises:
        ValueError: a column is missing, a value is no number, a candidate occurs twice, or is not
            among ``results``.
    """
    found = _read(path, ("system", "candidate"))
    known = {result.system: {c.id for c in result.candidates} for result in results}
    for system, candidate in found:
        if system not in known:
            raise ValueError(
                f"{path} has a system {system!r} that is not among the results; they have "
                f"{listed(list(known))}"
            )
        if candidate not in known[system]:
            raise ValueError(
                f"{path} has a candidate {candidate!r} that system {system} does not have: its "
                "single points belong to another run"
            )
    return {(system, candidate): one for (system, candidate), one in found.items()}


def read_references(path: Path) -> dict[str, DftResult]:
    """Columns system, energy (eV) and, if counted, scf_steps and ionic_steps; errors as above."""
    return {system: one for (system,), one in _read(path, ("system",)).items()}


def _read(path: Path, keys: tuple[str, ...]) -> dict[tuple[str, ...], DftResult]:
    """{values of the key columns: result}; of systems alone, all need an energy."""
    found: dict[tuple[str, ...], DftResult] = {}
    for line, row in _rows(path, (*keys, "energy")):
        key = tuple(row[name] for name in keys)
        where = f"{path}, line {line}, {' '.join(key)}"
        if key in found:
            raise ValueError(f"{where}: this {keys[-1]} occurs twice")
        energy = _number(row["energy"], f"{where}: energy")
        if energy is None and keys == ("system",):
            raise ValueError(f"{where}: no energy; give the lowest, or leave the line out")
        steps = {name: _number(row[name], f"{where}: {name}") for name in STEPS if name in row}
        if energy is None:
            steps = {name: value or 0.0 for name, value in steps.items()}
        for name, value in steps.items():
            if value is None or value < 0:
                raise ValueError(
                    f"{where}: {name} is missing or negative; count it for all, or leave out the "
                    "column"
                )
        found[key] = DftResult(energy, **steps)
    return found


def _rows(path: Path, needed: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        if missing := [name for name in needed if name not in (reader.fieldnames or ())]:
            raise ValueError(
                f"{path} has no column {', '.join(missing)}: its first line must name the columns "
                f"{', '.join(needed)}"
            )
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(f"{path}, line {reader.line_num}: not as many values as columns")
            rows.append((reader.line_num, {key: value.strip() for key, value in row.items()}))
    if not rows:
        raise ValueError(f"{path} holds no results")
    return rows


def _number(text: str, what: str) -> float | None:
    """The value, or None where it is empty or "nan"."""
    if not text or text.lower() == "nan":
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError(f"{what} is {text!r}, which is no number")
    return value
