"""Least squares on compositions: exact, the same in any batches, honest about what is open."""

from __future__ import annotations

import numpy as np
import pytest

from eqv2_plugin.data.references.linear_fit import (
    MAX_ELEMENTS,
    LinearFit,
    NormalEquations,
    RunningMoments,
    compositions_of,
)

ELEMENTS = (1, 6, 8, 29, 78, 118)
COEFFICIENTS = np.array([-3.4, -8.3, -4.8, -4.9, 0.25, 20.0])


def random_compositions(frames: int, seed: int = 0) -> np.ndarray:
    counts = np.zeros((frames, MAX_ELEMENTS), np.int64)
    counts[:, ELEMENTS] = np.random.default_rng(seed).integers(0, 40, (frames, len(ELEMENTS)))
    return counts


def fit(compositions: np.ndarray, energies: np.ndarray, batch: int = 64) -> LinearFit:
    equations = NormalEquations()
    for start in range(0, len(energies), batch):
        equations.add(compositions[start : start + batch], energies[start : start + batch])
    return equations.solve()


def test_known_coefficients_are_recovered_exactly():
    compositions = random_compositions(200)
    result = fit(compositions, compositions[:, ELEMENTS] @ COEFFICIENTS)
    np.testing.assert_allclose(result.coefficients[list(ELEMENTS)], COEFFICIENTS, atol=1e-10)
    assert result.undetermined == ()


def test_a_noisy_fit_equals_numpy_on_the_whole_matrix():
    compositions = random_compositions(300)
    energies = np.random.default_rng(1).normal(-1e4, 50.0, 300)
    expected = np.linalg.lstsq(compositions[:, ELEMENTS].astype(float), energies, rcond=None)[0]
    result = fit(compositions, energies)
    np.testing.assert_allclose(result.coefficients[list(ELEMENTS)], expected, rtol=1e-10)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_the_cut_into_batches_does_not_matter(batch):
    compositions = random_compositions(300)
    energies = np.random.default_rng(2).normal(-500.0, 50.0, 300)
    whole, cut = fit(compositions, energies, 300), fit(compositions, energies, batch)
    np.testing.assert_allclose(cut.coefficients, whole.coefficients, rtol=1e-10)
    np.testing.assert_array_equal(cut.frames, whole.frames)


def test_absent_elements_are_nan_and_counted_as_zero():
    compositions = random_compositions(50)
    result = fit(compositions, compositions[:, ELEMENTS] @ COEFFICIENTS)
    absent = np.setdiff1d(np.arange(MAX_ELEMENTS), ELEMENTS)
    assert np.isnan(result.coefficients[absent]).all()
    assert np.isfinite(result.coefficients[list(ELEMENTS)]).all()
    np.testing.assert_array_equal(result.atoms, compositions.sum(0))
    np.testing.assert_array_equal(result.frames, (compositions > 0).sum(0))


def test_elements_always_together_get_the_smallest_solution_and_are_named():
    compositions = random_compositions(200)
    compositions[:, 29] = 3 * compositions[:, 78]  # Cu3Pt throughout
    energies = compositions[:, ELEMENTS] @ COEFFICIENTS
    result = fit(compositions, energies)
    expected = np.linalg.lstsq(compositions[:, ELEMENTS].astype(float), energies, rcond=None)[0]
    assert result.undetermined == ((29, 78),)
    np.testing.assert_allclose(result.coefficients[list(ELEMENTS)], expected, atol=1e-9)
    known = np.nan_to_num(result.coefficients)
    np.testing.assert_allclose(compositions @ known, energies, rtol=1e-12)


def test_separate_groups_of_inseparable_elements_are_told_apart():
    compositions = random_compositions(200)
    compositions[:, 29] = 3 * compositions[:, 78]
    compositions[:, 6] = compositions[:, 8]
    assert fit(compositions, np.ones(200)).undetermined == ((6, 8), (29, 78))


def test_one_composition_only_is_a_group_of_all_its_elements():
    ethanol = compositions_of([np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])] * 5)
    result = fit(ethanol, np.full(5, -41.0))
    assert result.undetermined == ((1, 6, 8),)
    # The smallest coefficients of 6 H + 2 C + O = -41 are along (6, 2, 1).
    expected = -np.array([6.0, 2.0, 1.0])
    np.testing.assert_allclose(result.coefficients[[1, 6, 8]], expected, rtol=1e-12)


def test_a_single_frame_that_tells_two_elements_apart_is_enough():
    compositions = np.zeros((100_000, MAX_ELEMENTS), np.int64)
    compositions[:, 8] = np.arange(len(compositions)) % 90 + 1
    compositions[:, 22] = compositions[:, 8]
    compositions[0, 22] += 1
    result = fit(compositions, compositions[:, 8] * -5.0 + compositions[:, 22] * -11.0, 4096)
    assert result.undetermined == ()
    np.testing.assert_allclose(result.coefficients[[8, 22]], [-5.0, -11.0], rtol=1e-5)


def test_a_rare_element_beside_common_ones_is_determined():
    compositions = random_compositions(50_000)
    compositions[:, 118] = 0
    compositions[17, 118] = 1
    energies = compositions[:, ELEMENTS] @ COEFFICIENTS
    result = fit(compositions, energies)
    assert result.undetermined == ()
    assert result.frames[118] == 1
    np.testing.assert_allclose(result.coefficients[118], 20.0, atol=1e-6)


def test_no_frames_are_refused():
    with pytest.raises(ValueError, match="no frames to fit"):
        NormalEquations().solve()


@pytest.mark.parametrize("batch", [1, 13, 1000])
@pytest.mark.parametrize("mean", [0.0, -1e7])
def test_batches_give_the_moments_of_the_whole(batch, mean):
    values = np.random.default_rng(0).normal(mean, 0.2, (1000, 3))
    moments = RunningMoments()
    for start in range(0, len(values), batch):
        moments.add(values[start : start + batch])
    assert moments.count == 3000
    assert moments.mean == pytest.approx(values.mean(), rel=1e-14, abs=1e-14)
    # Two plain sums would leave no digit of a spread of 0.2 around 1e7.
    assert moments.deviation == pytest.approx(values.std(), rel=1e-7)
    assert moments.rms == pytest.approx(np.sqrt((values**2).mean()), rel=1e-12)


def test_float32_batches_are_summed_in_float64():
    values = np.full(100_000, 0.1, np.float32)
    values[::2] = -0.1
    moments = RunningMoments()
    moments.add(values)
    assert moments.deviation == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_an_empty_batch_changes_nothing():
    moments = RunningMoments()
    moments.add(np.array([1.0, 3.0]))
    moments.add(np.zeros(0))
    assert (moments.count, moments.mean, moments.deviation) == (2, 2.0, 1.0)
