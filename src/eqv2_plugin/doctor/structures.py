"""The structures that a model is examined on."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.neighborlist import neighbor_list

from eqv2_plugin.data.fixed_atoms import PARTLY_FIXED, partly_fixed
from eqv2_plugin.data.labels import drop_info_labels
from eqv2_plugin.data.sample import load_sample
from eqv2_plugin.data.structures import take_arrays_out_of_info

MAX_STRUCTURES = 4
RATTLE = 0.05  # Å
# Which sample resembles what a data set's name stands for.
_SAMPLE_OF = {"md17": "rmd17_ethanol", "rmd17": "rmd17_ethanol", "omol": "rmd17_ethanol"}


def choose_structures(
    path: Path | None, task_name: str, elements: Collection[int], cutoff: float
) -> tuple[list[Atoms], str]:
    """Structures of a file, or of the embedded sample of ``task_name``, and where they come from.

    All are rattled a little: in a perfect crystal all forces vanish, and neighbours are
    exactly equally far, so that rounding decides which of them are kept.

    Args:
        path: any file that ASE reads, or None.
        elements: atomic numbers that the model knows.
        cutoff: of the model, Å.

    Raises:
        ValueError: the file cannot be read, is empty, or has a structure that the model cannot
            predict or that has no forces.
    """
    if path is None:
        structures, origin = _from_samples(task_name, elements)
    else:
        frames = _read(path)
        for index, atoms in enumerate(frames):
            _check(atoms, f"{path}, structure {index}", elements, cutoff)
        count = min(MAX_STRUCTURES, len(frames))
        picked = np.linspace(0, len(frames) - 1, count).round().astype(int)
        structures = [frames[i] for i in picked]
        origin = f"{len(picked)} of {len(frames)} in {path.name}"
        if partly := sum(map(partly_fixed, structures)):
            origin += f" ({partly} {PARTLY_FIXED})"
    for index, atoms in enumerate(structures):
        atoms.calc = None
        take_arrays_out_of_info(atoms)
        drop_info_labels(atoms.info)  # the model is examined, no label is read
        moved = np.random.default_rng(index).normal(scale=RATTLE, size=(len(atoms), 3))
        atoms.positions += moved  # fixed atoms too: this is no dynamics
    return structures, origin


def _from_samples(task_name: str, elements: Collection[int]) -> tuple[list[Atoms], str]:
    first = _SAMPLE_OF.get(task_name, "oc20_sample")
    for sample in dict.fromkeys((first, "oc20_sample", "rmd17_ethanol")):
        systems: dict[str, list[Atoms]] = {}
        for atoms in load_sample(sample, "train"):
            if set(atoms.numbers) <= set(elements):
                systems.setdefault(atoms.info["sid"], []).append(atoms)
        if systems:
            by_size = sorted(systems.values(), key=lambda frames: len(frames[0]))
            frames = [frames[0] for frames in by_size[:MAX_STRUCTURES]]
            if len(by_size) == 1:
                step = max(1, len(by_size[0]) // MAX_STRUCTURES)
                frames = by_size[0][::step][:MAX_STRUCTURES]
            return frames, f"{len(frames)} of the embedded sample {sample}"
    known = ", ".join(chemical_symbols[z] for z in sorted(elements)) or "no element"
    raise ValueError(
        f"none of the embedded samples fits this model, which knows {known}: name a file of "
        "structures with --structures"
    )


def _read(path: Path) -> list[Atoms]:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        frames = list(ase.io.iread(path, index=":"))
    except Exception as error:
        # ASE's readers raise whatever their format brings.
        raise ValueError(
            f"{path} cannot be read as structures ({type(error).__name__}: {error}); it must be "
            "a file that ase.io.read understands, for example .extxyz or .traj"
        ) from error
    if not frames:
        raise ValueError(f"{path} holds no structure")
    return frames


def _check(atoms: Atoms, where: str, elements: Collection[int], cutoff: float) -> None:
    unknown = sorted(set(atoms.numbers.tolist()) - set(elements))
    if unknown:
        symbols = ", ".join(chemical_symbols[z] for z in unknown)
        raise ValueError(f"{where} holds {symbols}, which the model does not know: remove it")
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        raise ValueError(f"{where} has a position or a cell that is not finite: fix or remove it")
    if atoms.pbc.any() and (np.linalg.norm(atoms.cell.array[atoms.pbc], axis=1) < 1e-3).any():
        raise ValueError(f"{where} is periodic along a direction without cell vector")
    partners = np.bincount(neighbor_list("i", atoms, cutoff), minlength=len(atoms))
    alone = np.flatnonzero(partners == 0)
    if len(alone):
        raise ValueError(
            f"{where} has {len(alone)} isolated atom(s), such as atom {alone[0]}: no neighbour is "
            f"within the model's cutoff of {cutoff:g} Å, and no force acts; remove the structure"
        )
