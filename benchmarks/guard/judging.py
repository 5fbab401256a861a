"""What the guard says of a checkpoint's predictions beside labels, proper ones and changed ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms, units
from fairchem.core.units.mlip_unit.api.inference import InferenceSettings

from eqv2_plugin.common.files import read_npz, save_npz
from eqv2_plugin.common.hashing import file_sha256
from eqv2_plugin.data.references.coefficients import load_coefficients, reference_energy
from eqv2_plugin.data.references.linear_fit import compositions_of
from eqv2_plugin.data.references.ridge import fit_ridge
from eqv2_plugin.inference.predictor import open_predictor
from eqv2_plugin.inference.unit_agreement import Pairs
from eqv2_plugin.training.label_guard import mismatches, predicted_pairs, work_note
from eqv2_plugin.training.start import start_normalizer
from guard.kinds import OTHER, TRAIN, VAL, Kind, labelled, spread_out

_KCAL, _KJ = units.kcal / units.mol, units.kJ / units.mol
_HARTREE, _FORCE = units.Hartree, units.Hartree / units.Bohr


Change = Callable[[Pairs, Mapping[str, np.ndarray]], Pairs]


@dataclass(frozen=True)
class Errors:
    """Of a checkpoint on frames: MAE of forces, that of zero forces (meV/Å), of energies (meV)."""

    forces: float
    zero: float
    energies: float


@dataclass(frozen=True)
class Judged:
    """What was said of a kind of data; empty lists where labels passed."""

    kind: str
    errors: dict[str, Errors]  # of each set of proper frames
    proper: dict[str, list[str]]  # of the same
    changed: dict[str, list[str]]  # of the other frames with other labels, by the change


def judged(kind: Kind, frames: Mapping[str, list[Atoms]], checkpoint: Path, out: Path) -> Judged:
    """Predict the sets of frames that no training has seen, and judge; predictions are kept."""
    scale = start_normalizer("checkpoint", str(checkpoint), "energy", "rmsd")
    sets = {name: spread_out(part) for name, part in frames.items() if name not in (TRAIN, VAL)}
    pairs = _predictions(kind.name, sets, checkpoint, out)
    references = _references(kind, sets[OTHER])
    changed = {}
    for name, change in CHANGES.items():
        notes = mismatches(change(pairs[OTHER], references), scale, True)
        changed[name] = notes or _of_work(_changed(kind, frames[OTHER], change))
    proper = {
        name: mismatches(one, scale, True) or _of_work(frames[name]) for name, one in pairs.items()
    }
    return Judged(kind.name, {n: _errors(p) for n, p in pairs.items()}, proper, changed)


def _of_work(frames: list[Atoms]) -> list[str]:
    note = work_note(frames)
    return [note] if note else []


def _changed(kind: Kind, frames: list[Atoms], change: Change) -> list[Atoms]:
    """Frames with other labels."""
    labels = [atoms.calc.results for atoms in frames]
    own = Pairs(
        [atoms.numbers for atoms in frames],
        np.array([(one["energy"], one["energy"]) for one in labels]),
        [np.stack((one["forces"], one["forces"]), axis=1) for one in labels],
    )
    found = change(own, _references(kind, frames))
    return [
        labelled(atoms, energy, forces[:, 1])
        for atoms, energy, forces in zip(frames, found.energies[:, 1], found.forces, strict=True)
    ]


def times(energy: float, force: float) -> Change:
    """A change of labels: times factors."""

    def change(pairs: Pairs, references: Mapping[str, np.ndarray]) -> Pairs:
        return replace(
            pairs,
            energies=pairs.energies * [1.0, energy],
            forces=[part * [[1.0], [force]] for part in pairs.forces],
        )

    return change


def _shifted(name: str) -> Change:
    def change(pairs: Pairs, references: Mapping[str, np.ndarray]) -> Pairs:
        energies = pairs.energies.copy()
        energies[:, 1] += references[name]
        return replace(pairs, energies=energies)

    return change


def _per_atom(pairs: Pairs, references: Mapping[str, np.ndarray]) -> Pairs:
    sizes = np.array([len(one) for one in pairs.numbers])
    return replace(pairs, energies=pairs.energies / np.stack((sizes**0, sizes), axis=1))


CHANGES = {
    "kcal/mol": times(1 / _KCAL, 1 / _KCAL),
    "kJ/mol": times(1 / _KJ, 1 / _KJ),
    "atomic units": times(1 / _HARTREE, 1 / _FORCE),
    "meV": times(1e3, 1e3),
    "energies alone in kcal/mol": times(1 / _KCAL, 1.0),
    "energies alone in Hartree": times(1 / _HARTREE, 1.0),
    "forces alone in kcal/mol/Å": times(1.0, 1 / _KCAL),
    "gradients for forces": times(1.0, -1.0),
    "energies of the other sign": times(-1.0, 1.0),
    "energies per atom": _per_atom,
    "total for referenced energies, or the reverse": _shifted("own"),
    "references per element (OMat24's) taken off or added": _shifted("published"),
}


def _references(kind: Kind, frames: list[Atoms]) -> dict[str, np.ndarray]:
    """[frames] eV that make energies relative to something else."""
    coefficients = load_coefficients("omat24")
    # Of a few elements it says nothing.
    coefficients = np.where(np.isnan(coefficients), np.nanmean(coefficients), coefficients)
    published = np.array([coefficients[atoms.numbers].sum() for atoms in frames])
    if not kind.totals:
        own = np.array([atoms.info["ref_energy"] for atoms in frames])
        return {"own": own, "published": published}
    energies = np.array([atoms.calc.results["energy"] for atoms in frames])
    compositions = compositions_of([atoms.numbers for atoms in frames])
    _, groups = np.unique(compositions, axis=0, return_inverse=True)
    fit = fit_ridge(compositions, energies, groups.ravel())
    fitted = np.array([reference_energy(fit.coefficients, a.numbers, "a frame") for a in frames])
    return {"own": -fitted, "published": -published}


def _predictions(
    name: str, sets: Mapping[str, list[Atoms]], checkpoint: Path, out: Path
) -> dict[str, Pairs]:
    folder = out / "predictions" / f"{name}-{file_sha256(checkpoint)[:12]}"
    predict, found = None, {}
    for number, (part, frames) in enumerate(sets.items()):
        path = folder / f"{number}.npz"
        if path.is_file():
            found[part] = _stored(read_npz(path))
            continue
        if predict is None:
            settings = InferenceSettings(activation_checkpointing=False)
            predict = open_predictor(str(checkpoint), "cpu", settings, None)
        pairs = found[part] = predicted_pairs(predict, frames)
        if len(pairs.numbers) != len(frames):
            raise RuntimeError(f"{name}: the checkpoint refuses some of the {part}")
        save_npz(
            path,
            {
                "numbers": np.concatenate(pairs.numbers),
                "natoms": np.array([len(one) for one in pairs.numbers]),
                "energies": pairs.energies,
                "forces": np.concatenate(pairs.forces),
                "free": np.array([len(one) for one in pairs.forces]),
            },
        )
    return found


def _stored(file: Mapping[str, np.ndarray]) -> Pairs:
    numbers = np.split(file["numbers"], np.cumsum(file["natoms"])[:-1])
    forces = np.split(file["forces"], np.cumsum(file["free"])[:-1])
    return Pairs(numbers, file["energies"], forces)


def _errors(pairs: Pairs) -> Errors:
    predicted, labelled = np.concatenate(pairs.forces).swapaxes(0, 1)
    energies = np.abs(np.subtract(*pairs.energies.T)).mean()
    mae, zero = np.abs(predicted - labelled).mean(), np.abs(labelled).mean()
    return Errors(*(1e3 * float(value) for value in (mae, zero, energies)))
