"""Files of VASP: vasprun.xml, OUTCAR and ML_AB, with the energy that belongs to the forces."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import compress, islice
from pathlib import Path
from typing import IO, Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.formats import open_with_compression
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import GPa

from eqv2_plugin.common.text import warn_once

FREE_ENERGY = (
    "frames of VASP: their energy is the free energy (TOTEN), whose derivative the forces are, "
    "not the one extrapolated to zero smearing"
)
_PACKED = r"(?:\.(?:gz|bz2|xz))?"
# Names of files; VASP_KINDS has their readers.
_NAMES = {
    "vasprun.xml": re.compile(rf".*vasprun.*\.xml(\.\w+?)?{_PACKED}", re.IGNORECASE),
    "OUTCAR": re.compile(rf"(.*[._-])?OUTCAR([._-]?\w+?)?{_PACKED}"),
    "ML_AB": re.compile(rf"ML_ABN?([._-]\w+?)?{_PACKED}"),
}
_LIMIT = re.compile(r"\bNELM\b\W[^\d]*(\d+)")
_LEARNING = re.compile(r"ML_LMLFF\b.*[=>]\s*\.?T")
_ITERATION = re.compile(r"Iteration\s+(\d+)\(\s*(\d+)\)")
_RULER = re.compile(r"\s*([*=-])\1{9,}\s*")
_COMPONENTS = ("XX YY ZZ", "XY YZ ZX")  # titles within the section of the stress


def vasp_kind(path: Path) -> str | None:
    """Which of ``VASP_KINDS`` a file is, by its name; None for other files."""
    return next((kind for kind, name in _NAMES.items() if name.fullmatch(path.name)), None)


def read_vasprun(path: Path) -> Iterator[Atoms]:
    """The ionic steps of a vasprun.xml; of a run that was stopped, those that are whole.

    Energy (eV) is the free energy; forces in eV/Å; stress in eV/Å^3, positive under tension.
    Steps that did not reach self-consistency are left out, which is logged.

    Raises:
        ValueError: steps of a run in which VASP learned a force field, which partly predicts them.
    """
    with _opened(path) as file:
        steps, limit = _electronic_steps(file, path, _count_in_xml)
    frames = ase.io.iread(path, index=":", format="vasp-xml", parallel=False)
    yield from _converged(frames, steps, limit, path)


def read_outcar(path: Path) -> Iterator[Atoms]:
    """The ionic steps of an OUTCAR, as `read_vasprun`; fixed atoms are those of the CONTCAR or
    POSCAR beside it.
    """
    with _opened(path) as file:
        steps, limit = _electronic_steps(file, path, _count_in_outcar)
    frames = ase.io.iread(path, index=":", format="vasp-out", parallel=False)
    yield from _converged(frames, steps, limit, path)


def read_ml_ab(path: Path) -> Iterator[Atoms]:
    """The configurations of an ML_AB or ML_ABN file (VASP's manual, ML_AB).

    Energies are the ones that VASP learns, free energies (manual, ML_EATOM_REF).

    Raises:
        ValueError: the file is cut short or has another layout.
    """
    count = None
    with _opened(path) as file:
        sections = _sections(file)
        for title, lines in sections:
            if title == "The number of configurations":
                count = int(lines[0])
            if title.startswith("Configuration num."):
                break
        if count is None:
            raise ValueError("it does not say how many configurations it holds")
        for number in range(count):
            found: dict[str, list[str]] = {}
            for title, lines in sections:
                if title.startswith("Configuration num."):
                    break
                found[title] = lines
            try:
                yield _configuration(found)
            except KeyError as missing:
                raise ValueError(
                    f"configuration {number + 1} of {count} has no section {missing}: the file is "
                    "cut short or of another version"
                ) from missing


# Kind of a file: its reader.
VASP_KINDS: dict[str, Callable[[Path], Iterator[Atoms]]] = {
    "vasprun.xml": read_vasprun,
    "OUTCAR": read_outcar,
    "ML_AB": read_ml_ab,
}


def _opened(path: Path) -> IO[str]:
    return open_with_compression(str(path), "rt")


def _electronic_steps(
    file: IO[str], path: Path, count: Callable[[str, list[int]], None]
) -> tuple[list[int], int | None]:
    """Number of electronic steps in each ionic one, and NELM, the most that were allowed."""
    steps: list[int] = []
    limit = None
    for line in file:
        count(line, steps)
        if "ML_LMLFF" in line and _LEARNING.search(line):
            raise ValueError(
                f"{path.name} is of a run in which VASP learned a force field (ML_LMLFF), which "
                "predicts some of its steps: give the file ML_ABN, which holds the computed ones"
            )
        if limit is None and "NELM" in line and (match := _LIMIT.search(line)):
            limit = int(match[1])
    return steps, limit


def _count_in_xml(line: str, steps: list[int]) -> None:
    if "<calculation>" in line:
        steps.append(0)
    elif "<scstep>" in line and steps:
        steps[-1] += 1


def _count_in_outcar(line: str, steps: list[int]) -> None:
    if "Iteration" in line and (match := _ITERATION.search(line)):
        if len(steps) < int(match[1]):
            steps.append(0)
        steps[-1] = int(match[2])


def _converged(
    frames: Iterator[Atoms], steps: list[int], limit: int | None, path: Path
) -> Iterator[Atoms]:
    good = [limit is None or count < limit for count in steps]
    if not all(good):
        warn_once(
            f"{path}: {good.count(False)} of {len(good)} ionic steps took all {limit} electronic "
            "steps (NELM) without reaching self-consistency, and are left out"
        )
    for atoms in compress(frames, good):
        results = atoms.calc.results
        # ASE's name for the energy that is consistent with the forces.
        _label(atoms, results.get("free_energy"), results.get("forces"), results.get("stress"))
        yield atoms


def _label(atoms: Atoms, energy: Any, forces: Any, stress: Any) -> None:
    labels = {"energy": energy, "forces": forces, "stress": stress}
    there = {name: value for name, value in labels.items() if value is not None}
    atoms.calc = SinglePointCalculator(atoms, **there)


def _sections(file: IO[str]) -> Iterator[tuple[str, list[str]]]:
    """Title and lines of each section: a title follows a ruler of stars or equals signs."""
    title, is_title = "", False
    lines: list[str] = []
    for line in file:
        if _RULER.fullmatch(line):
            is_title = line.strip()[0] in "*="
            continue
        text = line.strip()
        if is_title or text in _COMPONENTS:
            yield title, lines
            title, lines, is_title = text, [], False
        else:
            lines.append(text)
    yield title, lines


def _configuration(found: dict[str, list[str]]) -> Atoms:
    kinds = [line.split() for line in found["Atom types and atom numbers"]]
    symbols = [symbol for symbol, count in kinds for _ in range(int(count))]
    atoms = Atoms(
        symbols,
        _vectors(found["Atomic positions (ang.)"], len(symbols)),
        cell=_vectors(found["Primitive lattice vectors (ang.)"], 3),
        pbc=True,
    )
    energy = float(found["Total energy (eV)"][0])
    forces = _vectors(found["Forces (eV ang.^-1)"], len(symbols))
    stress = None
    if "XX YY ZZ" in found:
        xx, yy, zz = _vectors(found["XX YY ZZ"], 1)[0]
        xy, yz, zx = _vectors(found["XY YZ ZX"], 1)[0]
        kbar = np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]])
        stress = full_3x3_to_voigt_6_stress(-0.1 * GPa * kbar)  # VASP's is a pressure
    _label(atoms, energy, forces, stress)
    return atoms


def _vectors(lines: list[str], count: int) -> np.ndarray:
    """[count, 3]."""
    rows = [line.split() for line in islice(lines, count)]
    if len(rows) < count or any(len(row) != 3 for row in rows):
        raise ValueError(f"{len(rows)} rows of 3 numbers where {count} belong: it is cut short")
    return np.array(rows, float)
