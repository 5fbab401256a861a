"""What a run's energies say about their drift."""

from __future__ import annotations

import numpy as np
import pytest

from eqv2_plugin.common.findings import Verdict
from eqv2_plugin.doctor.nve import Run

TIMES = np.linspace(0.0, 0.1, 201)


@pytest.mark.parametrize(
    ("slope", "verdict"),
    [(-1.0, Verdict.GOOD), (20.0, Verdict.LOOK), (-80.0, Verdict.BAD), (np.nan, Verdict.BAD)],
)
def test_the_drift_is_the_slope_in_mev_per_ps(slope, verdict):
    run = Run(TIMES, slope * TIMES)
    assert run.verdict() == verdict
    if np.isfinite(slope):
        assert run.drift == pytest.approx(slope)
        assert run.fluctuation == pytest.approx(0.0, abs=1e-9)


def test_a_drift_within_the_fluctuation_is_not_called_bad():
    noisy = Run(TIMES, 70.0 * TIMES + 6.0 * np.cos(314.159 * TIMES))
    assert 50.0 < abs(noisy.drift) < noisy.resolution
    assert noisy.verdict() == Verdict.LOOK


def test_a_run_that_ended_at_once_is_bad():
    assert Run(TIMES[:1], np.array([np.inf])).verdict() == Verdict.BAD
