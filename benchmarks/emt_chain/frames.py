"""Labelled frames for training: relaxations, rattled structures and short hot dynamics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin

from emt_chain.surfaces import (
    ADSORBATE,
    SURFACES,
    clean_slab,
    labelled,
    reference_energy,
    relax,
    relaxed_slab,
)
from eqv2_plugin.data.sample import write_ase_db
from eqv2_plugin.tasks.adsorbml.adsorbates import adsorbate_list
from eqv2_plugin.tasks.adsorbml.placements import place

MODE = "random_site_heuristic_placement"
# Placements of each split; AdsorbML's own are drawn with seed 0.
SEEDS = {"train": 1, "val_id": 2}
_MAX_FORCE = 15.0  # eV/Å; rattled atoms may nearly coincide
_TEMPERATURE = 700.0  # K


def write_split(split: str, placements: int, folder: Path) -> int:
    """Frames of all surfaces as fairchem reads them.

    Args:
        split: one of `SEEDS`.
        placements: of each surface.
        folder: is made.

    Returns:
        The number of frames.
    """
    frames = [f for surface in SURFACES for f in _of_surface(surface, split, placements)]
    folder.mkdir(parents=True)
    write_ase_db(frames, folder)
    return len(frames)


def _of_surface(surface: str, split: str, placements: int) -> list[Atoms]:
    slab = relaxed_slab(surface)
    offset = reference_energy(slab)
    adsorbates = adsorbate_list(ADSORBATE)
    starts = place(surface, clean_slab(surface), adsorbates, {MODE: placements}, SEEDS[split])
    random = np.random.default_rng([SEEDS[split], SURFACES.index(surface)])
    frames = []
    for number, (_, start) in enumerate(starts):
        path = relax(start)
        found = [path[i] for i in _spread(len(path))]
        found += [_rattled(path[random.integers(len(path))], random) for _ in range(10)]
        if number % 3 == 0:
            found += _dynamics(path[-1], random)
        for frame in found:
            forces = frame.get_forces(apply_constraint=False)
            if np.linalg.norm(forces, axis=1).max() < _MAX_FORCE:
                frames.append(_stored(frame, forces, offset, f"{surface}-{split}-{number}"))
    for number, frame in enumerate(frames):
        frame.info["fid"] = number
    return frames


def _spread(count: int) -> list[int]:
    """Steps of a relaxation: all of the first, where forces are large, fewer later, the last."""
    chosen = {round(1.5**power) for power in range(20)} | {0, count - 1}
    return sorted(step for step in chosen if step < count)


def _rattled(frame: Atoms, random: np.random.Generator) -> Atoms:
    """Free atoms displaced; the adsorbate further than the slab."""
    atoms = frame.copy()
    free = atoms.get_tags() > 0
    width = random.choice([0.03, 0.06, 0.12]) * np.where(atoms.get_tags() == 2, 2.5, 1.0)
    moved = random.normal(size=(len(atoms), 3)) * (width * free)[:, None]
    atoms.set_positions(atoms.positions + moved)
    atoms.calc = EMT()
    atoms.get_forces()
    return atoms


def _dynamics(frame: Atoms, random: np.random.Generator) -> list[Atoms]:
    """Ten frames of 0.2 ps from a relaxed structure."""
    atoms = frame.copy()
    atoms.calc = EMT()
    frames: list[Atoms] = []
    dynamics = Langevin(
        atoms,
        2 * units.fs,
        temperature_K=_TEMPERATURE,
        friction=0.02 / units.fs,
        fixcm=False,  # fixed atoms hold the rest
        rng=random,
    )
    for _ in range(10):
        dynamics.run(10)
        frames.append(labelled(atoms))
    return frames


def _stored(frame: Atoms, forces: np.ndarray, offset: float, system: str) -> Atoms:
    atoms = frame.copy()
    atoms.info = {"sid": system}
    energy = float(frame.get_potential_energy()) - offset
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms
