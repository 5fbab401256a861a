"""The clean slabs, and EMT energies on the scale of adsorption energies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.build import fcc100, fcc110, fcc111
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.optimize import LBFGS

ADSORBATE = "*N"
# With ASE's lattice constants, or between those of the two metals of an alloy; all at least 8 Å
# wide, so that nothing is tiled.
_VACUUM = {"vacuum": 7.0, "periodic": True}
_BUILDERS: dict[str, Callable[[], Atoms]] = {
    "Pt111": lambda: fcc111("Pt", (3, 3, 2), **_VACUUM),
    "Pd100": lambda: fcc100("Pd", (3, 3, 2), **_VACUUM),
    "Ag110": lambda: fcc110("Ag", (2, 3, 3), **_VACUUM),
    # Every third row of all layers is Pt.
    "Au2Pt111": lambda: _replaced(fcc111("Au", (3, 3, 2), a=4.0, **_VACUUM), "Pt", range(0, 18, 3)),
    # Two neighbours of the nine surface atoms are Pd.
    "AgPd100": lambda: _replaced(fcc100("Ag", (3, 3, 2), a=4.05, **_VACUUM), "Pd", (9, 10)),
}
SURFACES = tuple(_BUILDERS)
_FMAX, _STEPS = 0.02, 300  # eV/Å; of AdsorbML in the EquiformerV2 paper, section D.3
# One layer of (111) and (100), two of the open (110), where every second row lies 1.4 Å deeper.
_SURFACE_DEPTH = 1.7  # Å


def clean_slab(surface: str) -> Atoms:
    """As cut: tags 1 (surface) and 0, which are fixed; positions in Å."""
    atoms = _BUILDERS[surface]()
    heights = atoms.positions[:, 2]
    atoms.set_tags((heights > heights.max() - _SURFACE_DEPTH).astype(int))
    atoms.set_constraint(FixAtoms(mask=atoms.get_tags() == 0))
    return atoms


def relaxed_slab(surface: str) -> Atoms:
    """The clean slab, relaxed with EMT."""
    atoms = clean_slab(surface)
    relax(atoms)
    return atoms


def relax(atoms: Atoms) -> list[Atoms]:
    """Relax ``atoms`` with EMT in place.

    Returns:
        Copies with forces at each step, the first and the last included: one for each call of EMT.
    """
    atoms.calc = EMT()
    frames: list[Atoms] = []
    optimizer = LBFGS(atoms, logfile=None)
    optimizer.attach(lambda: frames.append(labelled(atoms)))
    optimizer.run(fmax=_FMAX, steps=_STEPS)
    return frames


def labelled(atoms: Atoms) -> Atoms:
    """A copy whose calculator still knows the results for these positions."""
    copy = atoms.copy()
    copy.calc = EMT()
    copy.calc.atoms = atoms.calc.atoms.copy()
    copy.calc.results = {name: np.copy(value) for name, value in atoms.calc.results.items()}
    return copy


def emt_energy(atoms: Atoms) -> float:
    """EMT's total energy, eV."""
    bare = atoms.copy()
    bare.calc = EMT()
    return float(bare.get_potential_energy())


def reference_energy(slab: Atoms, symbol: str = ADSORBATE.strip("*")) -> float:
    """What turns total into adsorption energies: relaxed clean slab and isolated atom, eV."""
    return emt_energy(slab) + emt_energy(Atoms(symbol))


def _replaced(atoms: Atoms, symbol: str, indices: range | tuple[int, ...]) -> Atoms:
    for index in indices:
        atoms[index].symbol = symbol
    return atoms
