"""Element references and normalisers of data sets, fitted in one pass over the frames."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np

from eqv2_plugin.data.inspection.frames import Frame, FrameDataset
from eqv2_plugin.data.inspection.scan import scan
from eqv2_plugin.data.references.coefficients import reference_energy
from eqv2_plugin.data.references.linear_fit import (
    MAX_ELEMENTS,
    LinearFit,
    NormalEquations,
    RunningMoments,
    compositions_of,
)

_BATCH = 1024  # frames; does not change the results


class Spread(NamedTuple):
    """Mean absolute and root mean square deviation, eV."""

    mae: float
    rmse: float


@dataclass(frozen=True)
class FittedReferences:
    """References, and what they leave of the energies."""

    fit: LinearFit  # the coefficients and what they rest on
    frames: int  # number of frames
    before: Spread  # deviation of the energies from their mean
    after: Spread  # and from the references' sum


@dataclass(frozen=True)
class FittedNormalizers:
    """Of energies (minus references, if any; eV), and of forces on free atoms (eV/Å)."""

    energy_mean: float
    energy_rmsd: float
    force_rms: float
    frames: int
    free_atoms: int


def fit_references(
    datasets: Sequence[FrameDataset],
    label: str = "energy",
    workers: int = 0,
) -> FittedReferences:
    """Least squares of a number that every frame has (``label``, eV) on the composition.

    Compositions wait in a temporary file (some 30 bytes a frame) for the residuals.

    Raises:
        ValueError: a frame without that label, with one that is not finite, or with labels that
            contradict each other.
    """
    equations, energies = NormalEquations(), RunningMoments()
    with tempfile.TemporaryFile() as file:
        spool = _Spool(file)
        for dataset in datasets:
            values = scan(dataset, partial(_numbers_and_label, label), workers=workers)
            for batch in _batches(values):
                compositions = compositions_of([numbers for numbers, _ in batch])
                targets = np.array([value for _, value in batch])
                equations.add(compositions, targets)
                energies.add(targets)
                spool.add(compositions, targets)
        fit = equations.solve()
        known = np.nan_to_num(fit.coefficients)
        sizes = np.zeros(2)  # summed absolute deviations before and after
        squares = 0.0
        for compositions, targets in spool:
            residuals = targets - compositions @ known
            sizes += np.abs(targets - energies.mean).sum(), np.abs(residuals).sum()
            squares += float((residuals**2).sum())
    mae = sizes / energies.count
    before = Spread(float(mae[0]), energies.deviation)
    after = Spread(float(mae[1]), float(np.sqrt(squares / energies.count)))
    return FittedReferences(fit, energies.count, before, after)


def fit_normalizers(
    datasets: Sequence[FrameDataset],
    coefficients: np.ndarray | None = None,
    workers: int = 0,
) -> FittedNormalizers:
    """Mean and spread of energies (minus element references, if any) and forces.

    Raises:
        ValueError: a frame without energy or forces, or with labels that are not finite or
            contradict each other; an element without reference; labels that do not vary.
    """
    energies, forces = RunningMoments(), RunningMoments()
    for dataset in datasets:
        values = scan(dataset, partial(_energy_and_forces, coefficients), workers=workers)
        for batch in _batches(values):
            energies.add(np.array([energy for energy, _ in batch]))
            forces.add(np.concatenate([components for _, components in batch]))
    if not energies.deviation > 0:
        raise ValueError(f"all {energies.count} energies are {energies.mean:g} eV: no scale to fit")
    if forces.count == 0 or not forces.rms > 0:
        raise ValueError("there is no force on a free atom that is not zero: no scale to fit")
    return FittedNormalizers(
        energies.mean, energies.deviation, forces.rms, energies.count, forces.count // 3
    )


def _numbers_and_label(label: str, frame: Frame) -> tuple[np.ndarray, float]:
    return _known_elements(frame), _label(frame, label)


def _energy_and_forces(coefficients: np.ndarray | None, frame: Frame) -> tuple[float, np.ndarray]:
    energy, forces = _label(frame, "energy"), frame.free_forces
    if forces is None:
        raise ValueError(f"{frame.name} has no forces")
    if not np.isfinite(forces).all():
        raise ValueError(f"{frame.name} has forces that are not finite: remove it, or the label")
    if coefficients is not None:
        energy -= reference_energy(coefficients, frame.numbers, frame.name)
    return energy, forces


def _label(frame: Frame, label: str) -> float:
    if frame.conflicts:
        raise ValueError(f"{frame.name}: {frame.conflicts[0]}")
    if label not in frame.scalars:
        there = ", ".join(frame.scalars) or "none"
        raise ValueError(f"{frame.name} has no label {label!r} (numbers stored: {there})")
    value = frame.scalars[label]
    if not np.isfinite(value):
        raise ValueError(f"{frame.name} has {label} {value}: remove the frame, or fix its label")
    return value


def _known_elements(frame: Frame) -> np.ndarray:
    wrong = frame.numbers[(frame.numbers < 1) | (frame.numbers >= MAX_ELEMENTS)]
    if len(wrong):
        raise ValueError(f"{frame.name} holds the atomic number {wrong[0]}, which no element has")
    return frame.numbers


def _batches(values: Iterator) -> Iterator[list]:
    return iter(lambda: list(islice(values, _BATCH)), [])


class _Spool:
    """Compositions and targets of all batches, in a file."""

    def __init__(self, file) -> None:
        self.file = file
        self.batches = 0

    def add(self, compositions: np.ndarray, targets: np.ndarray) -> None:
        rows, elements = np.nonzero(compositions)
        counts = compositions[rows, elements].astype(np.int32)
        for part in (targets, rows.astype(np.int32), elements.astype(np.uint8), counts):
            np.save(self.file, part)
        self.batches += 1

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        self.file.seek(0)
        for _ in range(self.batches):
            targets, rows, elements, counts = (np.load(self.file) for _ in range(4))
            compositions = np.zeros((len(targets), MAX_ELEMENTS), np.int64)
            compositions[rows, elements] = counts
            yield compositions, targets
