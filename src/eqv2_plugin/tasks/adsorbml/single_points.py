"""VASP input of DFT single points on the best structures, with OC20's settings."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from ase import Atoms

from eqv2_plugin.common.files import whole_file
from eqv2_plugin.tasks.adsorbml.duplicates import distinct
from eqv2_plugin.tasks.adsorbml.folder import file_name
from eqv2_plugin.tasks.adsorbml.packages import check_packages
from eqv2_plugin.tasks.adsorbml.system_result import Candidate, SystemResult

TABLE = "single_points.csv"
# On top of OC20's settings for slabs with adsorbates, which relax: one ionic step, nothing moves.
SINGLE_POINT = {"nsw": 0, "ibrion": -1}


def chosen(result: SystemResult, k: int, only_distinct: bool) -> list[Candidate]:
    """The k best candidates of a system, or fewer if there are not so many."""
    return distinct(result.ranked(), k) if only_distinct else result.ranked()[:k]


def write_single_points(
    results: Sequence[SystemResult], out: Path, k: int, only_distinct: bool = False
) -> tuple[int, bool]:
    """Folders ``out/<system>/<rank>_<candidate>`` with INCAR, KPOINTS, POSCAR and ase-sort.dat.

    ``out/single_points.csv`` lists them, with empty columns for what DFT gives; filled, it is
    what `eqv2 adsorbml score --dft` reads. It is written last. POTCAR files are written only
    where ASE finds pseudopotentials (VASP_PP_PATH), as they come with a VASP licence.

    Args:
        results: systems.
        out: folder that does not exist, or is empty.
        k: single points per system.
        only_distinct: leave out structures that repeat a better one.

    Returns:
        The number of single points, and whether all have a POTCAR.

    Raises:
        ValueError: k is below 1, or there is no valid structure at all.
        FileExistsError: the folder holds something.
        MissingCatalysisError: fairchem-data-oc is not installed.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is not empty: choose another folder, or remove it")
    rows, all_potcars = [], True
    for result in results:
        for rank, candidate in enumerate(chosen(result, k, only_distinct), start=1):
            folder = out / file_name(result.system) / f"{rank}_{candidate.id}"
            all_potcars &= write_vasp_input(candidate.relaxed, folder)
            rows.append(
                [
                    result.system,
                    candidate.id,
                    "",
                    "",
                    rank,
                    candidate.energy,
                    folder.relative_to(out),
                ]
            )
    if not rows:
        raise ValueError("no system has a valid structure: there is nothing to calculate")
    with whole_file(out / TABLE) as building, building.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["system", "candidate", "energy", "scf_steps", "rank", "predicted_energy", "folder"]
        )
        writer.writerows(rows)
    return len(rows), all_potcars


def write_vasp_input(atoms: Atoms, folder: Path) -> bool:
    """VASP input of a single point; returns whether there is a POTCAR, too.

    Settings are fairchem-data-oc's of OC20 (RPBE, 350 eV, k-points by cell), with NSW 0.

    Raises:
        MissingCatalysisError: fairchem-data-oc is not installed.
    """
    check_packages()
    from ase.calculators.vasp import Vasp
    from ase.io.vasp import write_vasp
    from fairchem.data.oc.utils.vasp import calculate_surface_k_points
    from fairchem.data.oc.utils.vasp_flags import VASP_FLAGS

    atoms = atoms.copy()
    if atoms.cell.handedness < 0:
        atoms.set_cell(atoms.cell[[1, 0, 2]])  # VASP wants a right-handed cell
    folder.mkdir(parents=True)
    calculator = Vasp(
        directory=str(folder),
        setups="minimal",
        kpts=calculate_surface_k_points(atoms),
        **{**VASP_FLAGS, **SINGLE_POINT},
    )
    has_potcar = True
    try:
        calculator.initialize(atoms)
    except RuntimeError:  # ASE has sorted the atoms, but found no pseudopotentials for them
        has_potcar = False
    write_vasp(
        str(folder / "POSCAR"), calculator.atoms_sorted, symbol_count=calculator.symbol_count
    )
    calculator.write_incar(atoms, directory=str(folder))
    calculator.write_kpoints(atoms=atoms, directory=str(folder))
    calculator.write_sort_file(directory=str(folder))
    if has_potcar:
        calculator.write_potcar(directory=str(folder))
    return has_potcar
