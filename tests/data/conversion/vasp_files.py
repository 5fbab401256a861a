"""Small files of VASP as it writes them, made of numbers; only what readers look at is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import GPa

SPECIES, COUNTS = ("Cu", "O"), (3, 1)
LIMIT = 60  # NELM
SMEARING = 0.25  # eV that the free energy lies below the other
_STARS, _LINES, _EQUALS = "*" * 50, "-" * 50, "=" * 50


def steps(number: int, seed: int = 0) -> list[Atoms]:
    """Random frames with the labels that should be read: free energy, forces, stress."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(number):
        atoms = Atoms("Cu3O", cell=np.eye(3) * 6 + rng.normal(0, 0.2, (3, 3)), pbc=True)
        atoms.set_scaled_positions(np.round(rng.uniform(0, 1, (4, 3)), 3))
        stress = rng.normal(0, 0.02, (3, 3))
        atoms.calc = SinglePointCalculator(
            atoms,
            energy=float(rng.normal(-20, 1)),
            forces=rng.normal(size=(4, 3)),
            stress=full_3x3_to_voigt_6_stress(stress + stress.T),
        )
        frames.append(atoms)
    return frames


def kbar(atoms: Atoms) -> np.ndarray:
    """[3, 3] stress as VASP prints it, a pressure."""
    return atoms.get_stress(voigt=False) / (-0.1 * GPa)


def write_vasprun(
    path: Path, frames: Sequence[Atoms], electronic: Sequence[int] = (), fixed: int = 0
) -> Path:
    """With so many electronic steps in each frame (5); the first ``fixed`` atoms are fixed."""
    atoms = "".join(
        f"<rc><c>{s} </c><c>{i + 1}</c></rc>\n"
        for i, (s, n) in enumerate(zip(SPECIES, COUNTS, strict=True))
        for _ in range(n)
    )
    text = f"""<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
<incar><i type="int" name="NELM">    {LIMIT}</i></incar>
<kpoints><varray name="kpointlist" ><v> 0.0 0.0 0.0 </v></varray>
<varray name="weights" ><v> 1.0 </v></varray></kpoints>
<parameters><i type="int" name="NELM">    {LIMIT}</i></parameters>
<atominfo><array name="atoms" ><set>
{atoms}</set></array></atominfo>
<structure name="initialpos" >
{_structure(frames[0])}
{_selective(fixed, len(frames[0]))}</structure>
"""
    for frame, count in zip(frames, electronic or [5] * len(frames), strict=True):
        free = frame.get_potential_energy()
        zero = free + SMEARING
        energies = (
            f'<energy><i name="e_fr_energy"> {free:.8f} </i>\n'
            f'<i name="e_wo_entrp"> {free + 2 * SMEARING:.8f} </i>\n'
            f'<i name="e_0_energy"> {zero:.8f} </i></energy>\n'
        )
        text += "<calculation>\n" + f"<scstep>\n{energies}</scstep>\n" * count
        text += f"<structure>\n{_structure(frame)}</structure>\n"
        text += f'<varray name="forces" >\n{_rows(frame.get_forces())}</varray>\n'
        text += f'<varray name="stress" >\n{_rows(kbar(frame))}</varray>\n'
        text += f"{energies}</calculation>\n"
    path.write_text(text + "</modeling>\n")
    return path


def write_outcar(path: Path, frames: Sequence[Atoms], electronic: Sequence[int] = ()) -> Path:
    """As `write_vasprun`; with five decimals of positions and six of forces."""
    text = "".join(f" POTCAR:    PAW_PBE {s} 01Jan2001\n" for s in SPECIES * 2)
    text += f"   NELM   =     {LIMIT};   NELMIN=  2; NELMDL=  0     # of ELM steps\n"
    text += "   ISPIN  =      1    spin polarized calculation?\n"
    text += f"   ions per type =  {' '.join(map(str, COUNTS))}\n"
    for number, frame in enumerate(frames, 1):
        for i in range((electronic or [5] * len(frames))[number - 1]):
            text += f"--------- Iteration {number:6}({i + 1:4})  ---------\n"
        xx, yy, zz, yz, xz, xy = full_3x3_to_voigt_6_stress(kbar(frame))
        text += "  in kB " + "".join(f"{v:14.6f}" for v in (xx, yy, zz, xy, yz, xz)) + "\n"
        text += "      direct lattice vectors                 reciprocal lattice vectors\n"
        for row in frame.cell.array:
            text += "".join(f"{v:14.9f}" for v in (*row, 0, 0, 0)) + "\n"
        text += " POSITION                                       TOTAL-FORCE (eV/Angst)\n ---\n"
        for row in np.hstack([frame.positions, frame.get_forces()]):
            text += "".join(f"{v:13.5f}" for v in row[:3])
            text += "".join(f"{v:14.6f}" for v in row[3:]) + "\n"
        free = frame.get_potential_energy()
        text += "  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  -----\n"
        text += f"  free  energy   TOTEN  = {free:18.8f} eV\n\n"
        text += f"  energy  without entropy= {free + 2 * SMEARING:16.8f}"
        text += f"  energy(sigma->0) = {free + SMEARING:16.8f}\n\n"
    path.write_text(text)
    return path


def write_ml_ab(path: Path, frames: Sequence[Atoms]) -> Path:
    """With a basis set, as VASP keeps one in the file, before the configurations."""
    head = {
        "The number of configurations": [len(frames)],
        "The atom types in the data file": [" ".join(SPECIES)],
        "Reference atomic energy (eV)": ["0.0 0.0"],
        "Basis set for Cu": ["1 1", "1 2"],
    }
    text = " 1.0 Version\n"
    for title, lines in head.items():
        text += _section(_STARS, title, lines)
    for number, frame in enumerate(frames, 1):
        (xx, xy, zx), (_, yy, yz), (_, _, zz) = kbar(frame)
        text += f"{_STARS}\n     Configuration num. {number:6}\n"
        kinds = [f"{s:8}{n:6}" for s, n in zip(SPECIES, COUNTS, strict=True)]
        for title, lines in {
            "System name": ["slab"],
            "The number of atoms": [len(frame)],
            "Atom types and atom numbers": kinds,
            "CTIFOR": ["2.0E-003"],
            "Primitive lattice vectors (ang.)": _numbers(frame.cell.array),
            "Atomic positions (ang.)": _numbers(frame.positions),
            "Total energy (eV)": [repr(frame.get_potential_energy())],
            "Forces (eV ang.^-1)": _numbers(frame.get_forces()),
        }.items():
            text += _section(_EQUALS, title, lines)
        text += f"{_EQUALS}\n     Stress (kbar)\n"
        text += _section(_LINES, "XX YY ZZ", _numbers([[xx, yy, zz]]))
        text += _section(_LINES, "XY YZ ZX", _numbers([[xy, yz, zx]]))
    path.write_text(text)
    return path


WRITERS = {"vasprun.xml": write_vasprun, "OUTCAR": write_outcar, "ML_ABN": write_ml_ab}


def _section(ruler: str, title: str, lines: Sequence[object]) -> str:
    return f"{ruler}\n     {title}\n{_LINES}\n" + "".join(f"   {line}\n" for line in lines)


def _numbers(rows: Sequence[Sequence[float]]) -> list[str]:
    return ["  ".join(f"{value:.15E}" for value in row) for row in rows]


def _structure(frame: Atoms) -> str:
    scaled = frame.get_scaled_positions(wrap=False)
    return (
        f'<crystal><varray name="basis" >\n{_rows(frame.cell.array)}</varray></crystal>\n'
        f'<varray name="positions" >\n{_rows(scaled)}</varray>\n'
    )


def _selective(fixed: int, count: int) -> str:
    rows = ["<v type='logical'> F F F </v>"] * fixed + ["<v type='logical'> T T T </v>"] * (
        count - fixed
    )
    return '<varray name="selective" >' + "".join(rows) + "</varray>\n" if fixed else ""


def _rows(values: np.ndarray) -> str:
    return "".join("<v>" + " ".join(f"{v:.12f}" for v in row) + "</v>\n" for row in values)
