"""Kinds of data: what a small checkpoint is trained on, and other frames of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ragged import read_frames

from eqv2_plugin.data.sample import load_sample

Frames = dict[str, list[Atoms]]
OTHER, HARDEST, APART = "other frames", "the largest forces of them", "labels 100 meV/Å apart"
TRAIN, VAL = "train", "val"
# eV/Å: MAE of the error that is added to forces, and eV per atom to energies.
_FORCE_ERROR, _ENERGY_ERROR = 0.1, 0.005
_MOST = 48


@dataclass(frozen=True)
class Kind:
    """A kind of data, and how a checkpoint is trained on it.

    Attributes:
        name: as the issue of labels calls it.
        draw: ``train`` and ``val``, of which the checkpoint is made, and sets of other frames by
            what they are, from the folder of --data.
        overrides: of ``eqv2_train.yml``.
        start: name of the kind whose checkpoint training begins from.
        totals: energies of the labels are total ones; otherwise ``info["ref_energy"]`` makes them
            so.
    """

    name: str
    draw: Callable[[Path | None], Frames]
    overrides: tuple[str, ...]
    start: str | None = None
    totals: bool = True


def ethanol(data: Path | None) -> Frames:
    train = [_total(atoms) for atoms in load_sample("rmd17_ethanol", "train")]
    test = [_total(atoms) for atoms in load_sample("rmd17_ethanol", "test")]
    return {TRAIN: train[:360], VAL: train[360:400], **_sets(test), "12 frames": test[:600:50]}


def copper_alloys(data: Path | None) -> Frames:
    train, val = load_sample("cualloy_sample", "train"), load_sample("cualloy_sample", "val")
    return {TRAIN: train[:200], VAL: train[200:220], **_sets(val)} | {
        "other alloys": load_sample("cualloy_sample", "val_ood")
    }


def oc20(data: Path | None) -> Frames:
    val = load_sample("oc20_sample", "val_id")
    known = {symbol for atoms in val for symbol in atoms.symbols}
    others = [a for a in load_sample("oc20_sample", "val_ood") if known.issuperset(a.symbols)]
    train = load_sample("oc20_sample", "train")
    return {TRAIN: train, VAL: train[::20], **_sets(val), "other systems": others}


def inorganic(data: Path | None) -> Frames:
    """Other materials; strained ones, of which none is among the training frames."""
    frames = read_frames((data or Path()) / "inorganic_pbe.npz", "material", ("subset",))
    frames = [atoms for atoms in frames if len(atoms) <= 40]
    strained = [atoms for atoms in frames if "stress" in atoms.info["subset"]]
    rest = [atoms for atoms in frames if "stress" not in atoms.info["subset"]]
    materials = sorted({atoms.info["sid"] for atoms in rest})
    held_out = set(np.random.default_rng(0).permutation(materials)[: len(materials) // 6].tolist())
    train = [atoms for atoms in rest if atoms.info["sid"] not in held_out]
    train = [train[i] for i in np.random.default_rng(1).permutation(len(train))[:1220]]
    known = {symbol for atoms in train for symbol in atoms.symbols}
    others = [a for a in rest if a.info["sid"] in held_out and known.issuperset(a.symbols)]
    relaxed = [atoms for atoms in others if "alexandria" in atoms.info["subset"]]
    strained = [atoms for atoms in strained if known.issuperset(atoms.symbols)]
    return {
        TRAIN: train[:1200],
        VAL: train[1200:],
        OTHER: others,
        HARDEST: _hardest(others),
        "nearly relaxed ones of them": relaxed,
        "highly strained frames": strained,
    }


def oc22(data: Path | None) -> Frames:
    frames = read_frames((data or Path()) / "oc22_samples.npz", "sid")
    train, others = [], []
    for i, atoms in enumerate(frames):
        (others if i % 3 == 1 else train).append(atoms)
    return {TRAIN: train, VAL: train[:2], **_sets(others), "3 frames": others[:3]}


# Settings that take minutes of one core, with a checkpoint that beats zero forces at the end.
_QUICK = ("size=tiny", "with_baselines=false", "job.device_type=CPU", "compile=false")
_ONE_LAYER = ("heads=direct", "model.backbone.num_layers=1", "cutoff=5", "max_neighbors=10")
KINDS = {
    kind.name: kind
    for kind in (
        Kind("rmd17", ethanol, (*_QUICK, "heads=conservative", "epochs=6")),
        Kind(
            "cualloy",
            copper_alloys,
            (*_QUICK, *_ONE_LAYER, "references=none", "epochs=3"),
            totals=False,
        ),
        Kind(
            "oc20",
            oc20,
            (*_QUICK, *_ONE_LAYER, "references=none", "energy_coefficient=20", "epochs=4"),
            totals=False,
        ),
        Kind("inorganic_pbe", inorganic, (*_QUICK, *_ONE_LAYER, "epochs=2")),
        Kind(
            "oc22",
            oc22,
            ("with_baselines=false", "job.device_type=CPU", "compile=false", "batch_size=1",
             "references=oc22_linear", "epochs=10"),
            start="inorganic_pbe",
        ),
    )
}  # fmt: skip


def _sets(others: list[Atoms]) -> Frames:
    return {OTHER: others, HARDEST: _hardest(others), APART: _apart(others)}


def spread_out(frames: list[Atoms]) -> list[Atoms]:
    """Up to 48 of them, as many as a run compares, evenly spaced."""
    places = np.linspace(0, len(frames) - 1, min(len(frames), _MOST)).astype(int)
    return [frames[i] for i in places]


def _hardest(frames: list[Atoms]) -> list[Atoms]:
    """The quarter with the largest forces."""
    sizes = [np.square(atoms.calc.results["forces"]).mean() for atoms in frames]
    return [frames[i] for i in np.sort(np.argsort(sizes)[-max(len(frames) // 4, 3) :])]


def _apart(frames: list[Atoms]) -> list[Atoms]:
    """Labels with an error of another method's size."""
    rng, found = np.random.default_rng(2), []
    for atoms in frames:
        labels = atoms.calc.results
        scale = _FORCE_ERROR * np.sqrt(np.pi / 2)
        found.append(
            labelled(
                atoms,
                labels["energy"] + _ENERGY_ERROR * len(atoms) * rng.normal(),
                labels["forces"] + scale * rng.normal(size=labels["forces"].shape),
            )
        )
    return found


def _total(atoms: Atoms) -> Atoms:
    labels = atoms.calc.results
    return labelled(atoms, labels["energy"] + atoms.info["ref_energy"], labels["forces"])


def labelled(atoms: Atoms, energy: float, forces: np.ndarray) -> Atoms:
    copy = atoms.copy()
    copy.calc = SinglePointCalculator(copy, energy=energy, forces=forces)
    return copy
