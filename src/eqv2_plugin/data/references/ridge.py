"""References per element that few frames cannot overfit: ridge regression, judged on held-out data.

Least squares on 60 frames of 65 elements fits every energy and predicts none. Here each element's
energy is drawn to the mean energy per atom, as far as that lowers the error on frames that
the fit has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from eqv2_plugin.data.references.linear_fit import MAX_ELEMENTS

_FOLDS = 10
_STRENGTHS = np.logspace(-10, 4, 57)
# Of an element's variance before the fit: what is left after it where the data say little.
_POOR = 0.5


@dataclass(frozen=True)
class RidgeFit:
    """References per element, and how far the data determine them."""

    coefficients: np.ndarray  # [MAX_ELEMENTS] eV per atom; NaN for elements without data
    # [frames] eV, energy minus the references' sum, fitted without the frame's fold.
    held_out: np.ndarray
    # Atomic numbers that the data hardly determine; theirs is nearly the mean per atom.
    poor: tuple[int, ...]
    strength: float  # of the ridge, in units of the elements' mean weight


def fit_ridge(compositions: np.ndarray, energies: np.ndarray, groups: np.ndarray) -> RidgeFit:
    """Fit references to energies of two frames or more, [frames] eV.

    A frame weighs as the inverse of its number of atoms, with which an energy's variance grows.

    Args:
        compositions: [frames, MAX_ELEMENTS] atoms of each element.
        groups: [frames] whole numbers; frames that resemble each other share one. With a single
            group frames are held out one by one.
    """
    if len(energies) < 2:
        raise ValueError("references need at least two frames to be fitted to")
    present = np.flatnonzero(compositions.sum(0))
    sizes = compositions.sum(1)
    root = np.sqrt(sizes)
    x = compositions[:, present] / root[:, None]
    folds = _folds(groups)

    def solved(rows: np.ndarray, strengths: np.ndarray) -> np.ndarray:
        """[strengths, elements] coefficients from some frames."""
        mean = float((energies[rows]).sum() / sizes[rows].sum())
        y = (energies[rows] - mean * sizes[rows]) / root[rows]
        values, vectors = np.linalg.eigh(x[rows].T @ x[rows])
        right = vectors.T @ (x[rows].T @ y)
        ridge = strengths * scale
        return mean + (right / (np.maximum(values, 0) + ridge[:, None])) @ vectors.T

    scale = float((x**2).sum() / len(present))
    predicted = np.empty((len(_STRENGTHS), len(energies)))
    for fold in np.unique(folds):
        out = folds == fold
        predicted[:, out] = solved(~out, _STRENGTHS) @ compositions[out][:, present].T
    errors = (((predicted - energies) / root) ** 2).mean(1)
    best = int(errors.argmin())
    coefficients = np.full(MAX_ELEMENTS, np.nan)
    coefficients[present] = solved(np.ones(len(energies), bool), _STRENGTHS[best : best + 1])[0]
    ridge = _STRENGTHS[best] * scale
    left = ridge * np.diag(np.linalg.inv(x.T @ x + ridge * np.eye(len(present))))
    return RidgeFit(
        coefficients=coefficients,
        held_out=energies - predicted[best],
        poor=tuple(int(z) for z in present[left > _POOR]),
        strength=float(_STRENGTHS[best]),
    )


def _folds(groups: np.ndarray) -> np.ndarray:
    """[frames] at most ten folds of whole groups."""
    _, numbers = np.unique(groups, return_inverse=True)
    if numbers.max() == 0:
        numbers = np.arange(len(groups))
    # In an order without pattern, that is always the same.
    order = np.random.default_rng(0).permutation(int(numbers.max()) + 1)
    return order[numbers] % min(_FOLDS, len(order))
