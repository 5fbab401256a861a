"""References that few frames cannot overfit."""

from __future__ import annotations

import numpy as np
import pytest

from eqv2_plugin.data.references.linear_fit import MAX_ELEMENTS, NormalEquations
from eqv2_plugin.data.references.ridge import fit_ridge


def made(frames: int, elements: int, noise: float, seed: int = 0):
    """Compositions, energies and the true energy per atom of each element."""
    rng = np.random.default_rng(seed)
    true = -6.0 + 2.0 * rng.normal(size=elements)
    counts = np.zeros((frames, MAX_ELEMENTS), int)
    for row in counts:
        row[1 + rng.choice(elements, 3, replace=False)] = rng.integers(1, 9, 3)
    energies = counts[:, 1 : elements + 1] @ true + noise * rng.normal(size=frames)
    return counts, energies, true


@pytest.mark.parametrize("seed", range(3))
def test_few_frames_of_many_elements_give_no_absurd_references(seed):
    counts, energies, true = made(60, 65, noise=2.0, seed=seed)
    fit = fit_ridge(counts, energies, np.arange(60))
    present = np.flatnonzero(counts.sum(0))
    wrong = fit.coefficients[present] - true[present - 1]
    equations = NormalEquations()
    equations.add(counts, energies)
    overfitted = equations.solve().coefficients[present] - true[present - 1]
    assert np.abs(wrong).max() < 6.0  # three spreads of the elements
    assert np.square(wrong).mean() < 0.2 * np.square(overfitted).mean()
    # What a new frame would be off by, not what the fit leaves of its own.
    assert np.sqrt(np.square(fit.held_out).mean()) > 2.0
    assert fit.poor


def test_many_frames_are_fitted_as_by_least_squares():
    counts, energies, true = made(3000, 20, noise=0.1)
    fit = fit_ridge(counts, energies, np.arange(3000))
    np.testing.assert_allclose(fit.coefficients[1:21], true, atol=0.01)
    assert not fit.poor
    assert np.sqrt(np.square(fit.held_out).mean()) == pytest.approx(0.1, rel=0.1)


def test_one_composition_says_nothing_of_its_elements():
    counts = np.zeros((50, MAX_ELEMENTS), int)
    counts[:, [1, 6, 8]] = 6, 2, 1
    energies = -4209.0 + np.random.default_rng(0).normal(size=50)
    fit = fit_ridge(counts, energies, np.zeros(50, int))
    np.testing.assert_allclose(fit.coefficients[[1, 6, 8]], energies.mean() / 9, rtol=1e-3)
    assert set(fit.poor) >= {6, 8}  # of hydrogen, two thirds of the atoms, the mean tells most
    assert np.isnan(fit.coefficients[7])
    assert np.sqrt(np.square(fit.held_out).mean()) == pytest.approx(energies.std(), rel=0.1)


def test_no_frame_is_judged_by_a_fit_that_has_seen_its_group():
    """Two groups whose elements differ: neither tells anything of the other's spread."""
    counts = np.zeros((40, MAX_ELEMENTS), int)
    counts[:20, 1], counts[20:, 2] = 4, 4
    energies = np.where(np.arange(40) < 20, -4.0, -40.0)
    together = fit_ridge(counts, energies, np.arange(40)).held_out
    apart = fit_ridge(counts, energies, np.repeat([0, 1], 20)).held_out
    assert np.abs(together).max() < 0.1
    assert np.abs(apart).min() > 10.0


def test_one_frame_is_too_few():
    with pytest.raises(ValueError, match="at least two frames"):
        fit_ridge(np.ones((1, MAX_ELEMENTS), int), np.zeros(1), np.zeros(1))
