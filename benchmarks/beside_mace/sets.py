"""Frames of the comparison with MACE, written as extxyz that both sides read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import write
from ragged import read_frames

from eqv2_plugin.data.sample import load_sample

PARTS = ("train", "val", "test")
# Names that MACE asks for, and eqv2_train.yml finds.
ENERGY, FORCES = "REF_energy", "REF_forces"
Frames = dict[str, list[Atoms]]


@dataclass(frozen=True)
class FrameSet:
    """Frames that both sides train on.

    Attributes:
        name, title: in run names; in tables.
        draw: the parts ``train``, ``val`` and ``test`` of a seed, from the folder of --data.
        seconds: of the processor that training may take.
        per_second: steps of our side in one of them, by which the end of its schedule is set.
        ours: overrides of the recipe.
        direct_per_second: as ``per_second``, with direct heads; None where they are not compared.
    """

    name: str
    title: str
    draw: Callable[[int, Path | None], Frames]
    seconds: float
    per_second: float
    ours: tuple[str, ...] = ()
    direct_per_second: float | None = None


def ethanol(seed: int, data: Path | None) -> Frames:
    """950 and 50 of the embedded sample's thousand frames, and its thousand of the test."""
    pool = load_sample("rmd17_ethanol", "train") + load_sample("rmd17_ethanol", "val")
    order = np.random.default_rng([seed, 950]).permutation(len(pool))
    return {
        "train": [pool[i] for i in order[:950]],
        "val": [pool[i] for i in order[950:]],
        "test": load_sample("rmd17_ethanol", "test"),
    }


def copper_alloys(seed: int, data: Path | None) -> Frames:
    """The embedded sample: a tenth of its training runs validates, the runs of its ``val`` test."""
    pool = load_sample("cualloy_sample", "train")
    held_out = _groups([atoms.info["sid"] for atoms in pool], 0.1, seed)
    return {
        "train": [atoms for atoms in pool if atoms.info["sid"] not in held_out],
        "val": [atoms for atoms in pool if atoms.info["sid"] in held_out],
        "test": load_sample("cualloy_sample", "val"),
    }


def inorganic(seed: int, data: Path | None) -> Frames:
    """PBE(+U) frames of 89 elements: materials of 300 frames test, of 100 validate.

    Raises:
        ValueError: there is no ``inorganic_pbe.npz`` in --data.
    """
    frames = read_frames((data or Path()) / "inorganic_pbe.npz", "material")
    materials = [atoms.info["sid"] for atoms in frames]
    test = _groups(materials, 300 / len(frames), seed)
    val = _groups([m for m in materials if m not in test], 100 / len(frames), seed + 1)
    parts: Frames = {part: [] for part in PARTS}
    for atoms, material in zip(frames, materials, strict=True):
        part = "test" if material in test else "val" if material in val else "train"
        parts[part].append(atoms)
    # Of an element that no training frame has, neither side can know anything.
    known = {symbol for atoms in parts["train"] for symbol in atoms.symbols}
    for part in ("val", "test"):
        parts[part] = [atoms for atoms in parts[part] if known.issuperset(atoms.symbols)]
    return parts


# MACE of 64 channels up to degree 1, as its README trains it, but in float32 as ours.
MACE_OPTIONS = (
    "--hidden_irreps=64x0e + 64x1o", "--r_max=5.0", "--E0s=average", "--batch_size=8", "--lr=0.01",
    "--ema", "--ema_decay=0.99", "--amsgrad", "--default_dtype=float32", "--max_num_epochs=10000",
)  # fmt: skip
# EMA weights forget the first ones in a third of the steps or less.
_ALLOYS = ("size=tiny", "heads=direct", "batch_size=2", "ema_decay=0.97")
_INORGANIC = ("size=tiny", "ema_decay=0.97")
SETS = {
    s.name: s
    for s in (
        FrameSet(
            "ethanol",
            "ethanol (rMD17), 950 frames",
            ethanol,
            seconds=120,
            per_second=13,
            ours=("size=tiny", "compile=true"),
        ),
        FrameSet(
            "cualloy",
            "CO, CHO, COH on copper alloys, about 206 frames",
            copper_alloys,
            seconds=120,
            per_second=1.6,
            ours=_ALLOYS,
        ),
        FrameSet(
            "inorganic",
            "inorganic PBE(+U), 89 elements, about 3,530 frames",
            inorganic,
            seconds=120,
            per_second=0.95,
            ours=_INORGANIC,
            direct_per_second=2.9,
        ),
    )
}


def write_parts(frames: Frames, folder: Path) -> None:
    """One extxyz for each part, labels in ``info`` and ``arrays`` under their own names."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, atoms in frames.items():
        write(folder / f"{part}.extxyz", [_relabelled(a, i) for i, a in enumerate(atoms)])


def _relabelled(atoms: Atoms, index: int) -> Atoms:
    copy = atoms.copy()
    copy.info = {"sid": str(atoms.info.get("sid", index)), "fid": index}
    copy.info[ENERGY] = atoms.get_potential_energy()
    copy.arrays[FORCES] = atoms.get_forces(apply_constraint=False)
    return copy


def _groups(names: Sequence[str], fraction: float, seed: int) -> set[str]:
    """Drawn until they hold a fraction of all."""
    unique, counts = np.unique(names, return_counts=True)
    order = np.random.default_rng([seed, len(names)]).permutation(len(unique))
    enough = int(np.searchsorted(np.cumsum(counts[order]), fraction * len(names))) + 1
    return set(unique[order[:enough]].tolist())
