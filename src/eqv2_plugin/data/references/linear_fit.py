"""Fits to data that pass by in batches: least squares on composition, mean and spread."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

MAX_ELEMENTS = len(chemical_symbols)  # entries of a coefficient vector, index = atomic number
# Singular directions of the column-scaled normal matrix below this are without data. Its
# eigenvalues are of order one and its rounding errors some 1e-15; two elements that occur
# together in all but one of 1e8 frames still lie above.
_SINGULAR = 1e-12
# A coefficient takes part in an undetermined direction from this share on.
_SHARE = 1e-6


@dataclass(frozen=True)
class LinearFit:
    """Result of `NormalEquations.solve`."""

    coefficients: np.ndarray  # [MAX_ELEMENTS] eV per atom, NaN for elements without data
    frames: np.ndarray  # [MAX_ELEMENTS] frames that hold the element
    atoms: np.ndarray  # [MAX_ELEMENTS] atoms of the element
    # Groups of atomic numbers of which only some combination is determined by the data, since their
    # counts always vary together; their coefficients are the smallest ones that fit.
    undetermined: tuple[tuple[int, ...], ...]


class NormalEquations:
    """Accumulates X^T X and X^T y of compositions X and energies y, in float64.

    X holds whole numbers, so X^T X is exact up to 2^53: the result does not depend on
    how the data is cut into batches, beyond the rounding of X^T y.
    """

    def __init__(self) -> None:
        self.matrix = np.zeros((MAX_ELEMENTS, MAX_ELEMENTS))
        self.vector = np.zeros(MAX_ELEMENTS)
        self.frames = np.zeros(MAX_ELEMENTS, np.int64)
        self.atoms = np.zeros(MAX_ELEMENTS, np.int64)

    def add(self, compositions: np.ndarray, energies: np.ndarray) -> None:
        """Add a batch: [frames, MAX_ELEMENTS] atoms of each element, and [frames] eV."""
        x = compositions.astype(np.float64)
        self.matrix += x.T @ x
        self.vector += x.T @ energies
        self.frames += (compositions > 0).sum(0)
        self.atoms += compositions.sum(0)

    def solve(self) -> LinearFit:
        """The least-squares coefficients; of several solutions the one of smallest norm."""
        present = np.flatnonzero(self.atoms)
        if len(present) == 0:
            raise ValueError("no frames to fit element references to")
        # Columns of equal length: rare and common elements count alike in the rank.
        scale = np.sqrt(np.diag(self.matrix)[present])
        scaled = self.matrix[np.ix_(present, present)] / np.outer(scale, scale)
        values, vectors = np.linalg.eigh(scaled)
        known = values > _SINGULAR
        right = vectors[:, known].T @ (self.vector[present] / scale)
        solution = (vectors[:, known] @ (right / values[known])) / scale
        groups: tuple[tuple[int, ...], ...] = ()
        if not known.all():
            # Null space in unscaled coefficients; what lies in it is free, and set to zero.
            null, _ = np.linalg.qr(vectors[:, ~known] / scale[:, None])
            solution -= null @ (null.T @ solution)
            groups = _linked(present, null @ null.T)
        coefficients = np.full(MAX_ELEMENTS, np.nan)
        coefficients[present] = solution
        return LinearFit(coefficients, self.frames.copy(), self.atoms.copy(), groups)


class RunningMoments:
    """Number, mean and mean square deviation of all values seen so far, in float64.

    Batches are combined by their own means, so that a large mean (total energies) costs
    no digits of the spread.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0  # summed squared deviations from the mean

    def add(self, values: np.ndarray) -> None:
        """Add a batch of numbers of any shape."""
        values = np.asarray(values, np.float64).ravel()
        if len(values) == 0:
            return
        mean = float(values.mean())
        total = self.count + len(values)
        step = mean - self.mean
        self._squares += float(((values - mean) ** 2).sum())
        self._squares += step**2 * self.count * len(values) / total
        self.mean += step * len(values) / total
        self.count = total

    @property
    def deviation(self) -> float:
        """Root mean square deviation from the mean (``numpy.std``)."""
        return math.sqrt(self._squares / self.count)

    @property
    def rms(self) -> float:
        """Root mean square (deviation from zero)."""
        return math.hypot(self.deviation, self.mean)


def compositions_of(numbers: list[np.ndarray]) -> np.ndarray:
    """Atoms of each element of some structures: [structures, MAX_ELEMENTS] int64."""
    return np.stack([np.bincount(z, minlength=MAX_ELEMENTS) for z in numbers])


def _linked(elements: np.ndarray, projector: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """Groups of elements that the projector onto the null space connects."""
    links = np.abs(projector) > _SHARE
    free = set(np.flatnonzero(np.diag(links)).tolist())
    groups = []
    while free:
        group, fresh = set(), {min(free)}
        while fresh:
            group |= fresh
            fresh = {int(j) for i in fresh for j in np.flatnonzero(links[i])} - group
        free -= group
        groups.append(tuple(sorted(int(elements[i]) for i in group)))
    return tuple(groups)
