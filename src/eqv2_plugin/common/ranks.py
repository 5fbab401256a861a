"""What each data-parallel rank draws, and what it goes on from after a resume."""

from __future__ import annotations

import numpy as np


def step_seed(seed: int, rank: int, step: int) -> int:
    """A seed for one step on one data-parallel rank, well mixed."""
    return int(np.random.SeedSequence((seed, rank, step)).generate_state(1, np.uint64)[0] >> 1)


def own_part(
    ranks: list[dict[str, float]], rank: int, count: int, divisor: int
) -> dict[str, float]:
    """What a rank goes on from: its own sums, or with another number of ranks a part of all.

    ``divisor`` is of the total, in that case.
    """
    if len(ranks) == count:
        return dict(ranks[rank])
    names = {name: None for one in ranks for name in one}
    return {name: sum(one.get(name, 0.0) for one in ranks) / divisor for name in names}
