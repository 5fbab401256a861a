"""Running mean and spread equal numpy's on all values at once."""

from __future__ import annotations

import numpy as np
import pytest

from eqv2_plugin.data.references.moments import RunningMoments


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
