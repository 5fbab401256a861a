"""Mean and spread of data that passes by in batches."""

from __future__ import annotations

import math

import numpy as np


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
