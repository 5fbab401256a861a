"""One pass over files of frames: what they hold, which labels count, how they can be parted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from tqdm import tqdm

from eqv2_plugin.common.text import listed
from eqv2_plugin.data.conversion.sources import FileSource
from eqv2_plugin.data.fixed_atoms import fixed_mask
from eqv2_plugin.data.labels import LABELS, LabelError, read_labels
from eqv2_plugin.data.own.identity import identify
from eqv2_plugin.data.own.keys import Found, KeyCount, LabelKeys

# Stored by some programs; no model of this package takes them.
_NOT_USED = ("charge", "spin", "total_charge", "multiplicity", "initial_charges", "initial_magmoms")


@dataclass(frozen=True)
class Wanted:
    """What the user says of the labels; None is found."""

    energy_key: str | None = None
    forces_key: str | None = None
    stress_key: str | None = None
    labels: tuple[str, ...] | None = None  # some of energy, forces, stress
    group_key: str | None = None  # name in ``atoms.info`` of what belongs together
    target_key: str | None = None  # of a number that is trained in place of all labels


@dataclass(frozen=True)
class Note:
    """What is remembered of one labelled frame."""

    source: int  # which file, by its place among the sources
    index: int  # of the frame in its file
    where: str  # file and frame, for errors
    numbers: np.ndarray  # [atoms] atomic numbers
    energy: float  # eV
    square: float  # sum of squared force components of free atoms, (eV/Å)^2; 0 without forces
    free: int  # number of free atoms
    periodic: bool  # along all three directions
    system: str | None  # ``info["sid"]``, or what ``group_key`` names; None where not stored
    digest: bytes  # equal for copies of one structure
    stress_square: float = 0.0  # sum of the nine squared components, (eV/Å^3)^2


@dataclass(frozen=True)
class Survey:
    """What some files hold."""

    keys: LabelKeys  # names of the labels
    notes: list[Note]  # of every labelled frame, in the order of the files
    unlabelled: int  # number of frames without these labels, which are left out
    remarks: tuple[str, ...] = ()  # on labels that are stored and not trained, one line each


@dataclass(frozen=True)
class _Seen:
    """One frame before it is known which names count."""

    source: int
    index: int
    where: str
    numbers: np.ndarray
    energies: dict[str, float]
    squares: dict[str, float]  # of vectors of free atoms; NaN where one of any atom is
    stresses: dict[str, float]
    free: int
    periodic: bool
    system: str | None
    digest: bytes
    conflicts: dict[str, str]  # {label: what is wrong}, which calculator and ``info`` both hold


def survey(sources: Sequence[FileSource], wanted: Wanted) -> Survey:
    """Read all frames of some files, once.

    Raises:
        ValueError: a file is damaged; no labels, ambiguous ones, or ones that contradict each
            other; a label that is not finite; a frame without ``group_key``.
    """
    count = KeyCount()
    seen, not_used = [], set()
    with tqdm(unit=" frames", desc="looking for labels", leave=False) as bar:
        for number, source in enumerate(sources):
            for index, (where, atoms) in enumerate(source.stored()):
                bar.update()
                found = count.add(atoms)
                not_used |= {n for n in _NOT_USED if n in atoms.info or n in atoms.arrays}
                seen.append(_seen(atoms, found, number, index, where, wanted.group_key))
    if not seen:
        raise ValueError(f"{listed([s.name for s in sources])} hold no frame")
    keys, remarks = _choose(count, wanted, seen)
    if not_used:
        remarks += (f"stored and not used: {listed(sorted(not_used))}; the model knows neither "
                    "charges nor spins",)  # fmt: skip
    notes = [note for one in seen if (note := _note(one, keys)) is not None]
    if not notes:
        names = [repr(n) for n in (keys.energy, keys.forces, keys.stress) if n is not None]
        raise ValueError(f"no frame stores {' and '.join(names)} together")
    return Survey(keys, notes, len(seen) - len(notes), remarks)


def _choose(
    count: KeyCount, wanted: Wanted, seen: Sequence[_Seen]
) -> tuple[LabelKeys, tuple[str, ...]]:
    if wanted.target_key is not None:
        return LabelKeys(count.target(wanted.target_key), None, is_property=True), ()
    labels = wanted.labels
    energy = count.energy(wanted.energy_key)
    forces = None
    if labels is None or "forces" in labels:
        forces = count.forces(wanted.forces_key, wanted=labels is not None)
    if forces is None or (labels is not None and "stress" not in labels):
        return LabelKeys(energy, forces), ()
    asked = wanted.stress_key is not None or labels is not None
    stress = count.stress(wanted.stress_key, wanted=asked)
    keys = LabelKeys(energy, forces, stress)
    if stress is None or asked:
        return keys, ()
    labelled = [one for one in seen if _has(one, LabelKeys(energy, forces))]
    with_stress = sum(_has(one, keys) for one in labelled)
    if with_stress == len(labelled):
        return keys, ()
    return LabelKeys(energy, forces), (
        f"not trained: stress, which {with_stress:,} of {len(labelled):,} frames have (stored, and "
        "periodic along three directions); labels=energy_forces_stress trains these alone",
    )


def _has(one: _Seen, keys: LabelKeys) -> bool:
    return (
        keys.energy in one.energies
        and (keys.forces is None or keys.forces in one.squares)
        and (keys.stress is None or (keys.stress in one.stresses and one.periodic))
    )


def _seen(
    atoms: Atoms, found: Found, source: int, index: int, where: str, group_key: str | None
) -> _Seen:
    identity = identify(atoms, where, group_key)
    free = ~fixed_mask(atoms)
    squares = {}
    for name, vectors in found.vectors.items():
        whole = np.isfinite(vectors).all()
        squares[name] = float((vectors[free].astype(np.float64) ** 2).sum()) if whole else np.nan
    return _Seen(
        source=source,
        index=index,
        where=where,
        numbers=identity.numbers,
        energies=found.numbers,
        squares=squares,
        stresses={
            name: float((six[:3] ** 2).sum() + 2 * (six[3:] ** 2).sum())
            for name, six in found.tensors.items()
        },
        free=int(free.sum()),
        periodic=bool(atoms.pbc.all()),
        system=identity.system,
        digest=identity.digest,
        conflicts=_conflicts(atoms, where),
    )


def _conflicts(atoms: Atoms, where: str) -> dict[str, str]:
    """A label that calculator and ``info`` both hold must be the same, as for all other readers."""
    results = {} if atoms.calc is None else atoms.calc.results
    found = {}
    for name in LABELS:
        if results.get(name) is None or atoms.info.get(name) is None:
            continue
        probe = Atoms(numbers=atoms.numbers, info={name: atoms.info[name]})
        probe.calc = atoms.calc
        try:
            read_labels(probe, where)
        except LabelError as error:
            found[name] = str(error)
    return found


def _note(one: _Seen, keys: LabelKeys) -> Note | None:
    """Of a frame that has these labels, else None."""
    if not _has(one, keys):
        return None
    for name in (keys.energy, keys.forces, keys.stress):
        if name in one.conflicts:
            raise LabelError(one.conflicts[name])
    energy = one.energies[keys.energy]
    square = 0.0 if keys.forces is None else one.squares[keys.forces]
    stress = 0.0 if keys.stress is None else one.stresses[keys.stress]
    first = keys.energy if keys.is_property else "energy"
    for label, value in ((first, energy), ("forces", square), ("stress", stress)):
        if not np.isfinite(value):
            raise ValueError(f"{one.where}: {label} are not finite: remove or fix the frame")
    return Note(
        source=one.source,
        index=one.index,
        where=one.where,
        numbers=one.numbers,
        energy=energy,
        square=square,
        free=one.free,
        periodic=one.periodic,
        system=one.system,
        digest=one.digest,
        stress_square=stress,
    )
