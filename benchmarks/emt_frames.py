"""ASE's EMT in the place of DFT: slabs, frames for training, relaxations (adsorbml_emt.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import fcc100, fcc110, fcc111
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.md.langevin import Langevin
from ase.optimize import LBFGS

from eqv2_plugin.tasks.adsorbml.adsorbates import adsorbate_list
from eqv2_plugin.tasks.adsorbml.placements import place
from eqv2_plugin.tasks.adsorbml.results import SystemResult

ADSORBATE, MODE = "*N", "random_site_heuristic_placement"
SEEDS = {"train": 1, "val_id": 2}  # of placements; AdsorbML's own are drawn with seed 0
FMAX, STEPS = 0.02, 300  # eV/Å; of AdsorbML in the EquiformerV2 paper, section D.3
MAX_FORCE = 15.0  # eV/Å of a frame; rattled atoms may nearly coincide
_VACUUM: Any = {"vacuum": 7.0, "periodic": True}
# Builder, size, metal and lattice constant (ASE's, or between those of the two metals), and which
# atoms are of another metal: every third row of all layers, two of the nine surface atoms. All are
# at least 8 Å wide, so that nothing is tiled.
SURFACES: dict[str, tuple[Any, ...]] = {
    "Pt111": (fcc111, "Pt", (3, 3, 2), None, ()),
    "Pd100": (fcc100, "Pd", (3, 3, 2), None, ()),
    "Ag110": (fcc110, "Ag", (2, 3, 3), None, ()),
    "Au2Pt111": (fcc111, "Au", (3, 3, 2), 4.0, [(i, "Pt") for i in range(0, 18, 3)]),
    "AgPd100": (fcc100, "Ag", (3, 3, 2), 4.05, [(9, "Pd"), (10, "Pd")]),
}
# One layer of (111) and (100), two of the open (110), where every second row lies 1.4 Å deeper.
SURFACE_DEPTH = 1.7  # Å


def clean_slab(surface: str) -> Atoms:
    """As cut: tags 1 (surface) and 0, which are fixed."""
    build, metal, size, a, replaced = SURFACES[surface]
    atoms = build(metal, size, a=a, **_VACUUM)
    for index, symbol in replaced:
        atoms[index].symbol = symbol
    heights = atoms.positions[:, 2]
    atoms.set_tags((heights > heights.max() - SURFACE_DEPTH).astype(int))
    atoms.set_constraint(FixAtoms(mask=atoms.get_tags() == 0))
    return atoms


def emt_energy(atoms: Atoms) -> float:
    bare = atoms.copy()
    bare.calc = EMT()
    return float(bare.get_potential_energy())


def emt_slab(surface: str) -> tuple[Atoms, float]:
    """The clean slab, relaxed with EMT, and what turns total into adsorption energies (eV)."""
    slab = clean_slab(surface)
    relax(slab)
    return slab, emt_energy(slab) + emt_energy(Atoms(ADSORBATE.strip("*")))


def relax(atoms: Atoms) -> list[Atoms]:
    """Relax in place; copies with forces at each step, one for each call of EMT."""
    atoms.calc = EMT()
    frames: list[Atoms] = []
    optimizer = LBFGS(atoms, logfile=None)
    optimizer.attach(lambda: frames.append(labelled(atoms)))
    optimizer.run(fmax=FMAX, steps=STEPS)
    return frames


def labelled(atoms: Atoms) -> Atoms:
    """A copy with the results for these positions."""
    energy, forces = atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False)
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, energy=float(energy), forces=forces)
    return copy


def frames_of(surface: str, split: str, placements: int) -> list[Atoms]:
    """Frames of relaxations, rattled structures and short hot dynamics."""
    _, offset = emt_slab(surface)
    initial = place(
        surface, clean_slab(surface), adsorbate_list(ADSORBATE), {MODE: placements}, SEEDS[split]
    )
    random = np.random.default_rng([SEEDS[split], list(SURFACES).index(surface)])
    # All of the first steps, where forces are large, fewer later, the last.
    wanted = {round(1.5**power) for power in range(20)} | {0}
    frames: list[Atoms] = []
    for number, (_, atoms) in enumerate(initial):
        path = relax(atoms)
        found = [path[i] for i in sorted(wanted | {len(path) - 1}) if i < len(path)]
        found += [rattled(path[random.integers(len(path))], random) for _ in range(10)]
        if number % 3 == 0:
            found += dynamics(path[-1], random)
        for frame in found:
            forces = frame.get_forces(apply_constraint=False)
            if np.linalg.norm(forces, axis=1).max() < MAX_FORCE:
                frame.info = {"sid": f"{surface}-{split}-{number}", "fid": len(frames)}
                frame.calc.results["energy"] -= offset
                frames.append(frame)
    return frames


def rattled(frame: Atoms, random: np.random.Generator) -> Atoms:
    """Free atoms displaced; the adsorbate further than the slab."""
    atoms = frame.copy()
    free = atoms.get_tags() > 0
    width = random.choice([0.03, 0.06, 0.12]) * np.where(atoms.get_tags() == 2, 2.5, 1.0)
    moved = random.normal(size=(len(atoms), 3)) * (width * free)[:, None]
    atoms.set_positions(atoms.positions + moved)
    atoms.calc = EMT()
    return labelled(atoms)


def dynamics(frame: Atoms, random: np.random.Generator) -> list[Atoms]:
    """Ten frames of 0.2 ps at 700 K from a relaxed structure; fixed atoms hold the rest."""
    atoms = frame.copy()
    atoms.calc = EMT()
    friction = 0.02 / units.fs
    run = Langevin(
        atoms, 2 * units.fs, temperature_K=700.0, friction=friction, fixcm=False, rng=random
    )
    frames: list[Atoms] = []
    for _ in range(10):
        run.run(10)
        frames.append(labelled(atoms))
    return frames


def relax_placements(result: SystemResult) -> dict[str, Any]:
    """EMT relaxations of the placements that the model relaxed.

    Returns:
        Energies of EMT in eV: ``relaxed`` (of those without anomaly), ``unrelaxed`` (of all, as
        placed), ``predicted`` (of the model's valid structures, in the order of its ranking). And
        ``steps``, the calls of EMT in the relaxations.
    """
    from fairchem.core.components.calculate.recipes.adsorbml import detect_anomaly

    slab, offset = emt_slab(result.system.split("_")[0])
    found: dict[str, Any] = {"system": result.system, "relaxed": [], "unrelaxed": [], "steps": 0}
    for candidate in result.candidates:
        path = relax(candidate.initial.copy())
        found["unrelaxed"].append(path[0].get_potential_energy() - offset)
        found["steps"] += len(path)
        if not detect_anomaly(candidate.initial, path[-1], slab):
            found["relaxed"].append(path[-1].get_potential_energy() - offset)
    found["predicted"] = [emt_energy(c.relaxed) - offset for c in result.ranked()]
    return found
