"""What the benchmark of the guard changes in labels, and what its tables count."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from eqv2_plugin.inference.unit_agreement import Pairs

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def guard():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        from guard import judging, kinds, report

        yield judging, kinds, report
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize(
    ("change", "energies", "forces"),
    [
        ("atomic units", [-0.2204959, -0.3674932], 0.0388938),
        ("gradients for forces", [-6.0, -10.0], -2.0),
        ("energies per atom", [-3.0, -2.0], 2.0),
        ("total for referenced energies, or the reverse", [-5.0, -8.0], 2.0),
    ],
)
def test_labels_change_and_predictions_do_not(guard, change, energies, forces):
    numbers = [np.array([1, 1]), np.array([8] * 5)]
    both = [np.full((len(one), 2, 3), 2.0) for one in numbers]
    pairs = Pairs(numbers, np.array([[-6.0, -6.0], [-10.0, -10.0]]), both)
    found = guard[0].CHANGES[change](pairs, {"own": np.array([1.0, 2.0])})
    np.testing.assert_allclose(found.energies, np.stack(([-6.0, -10.0], energies), 1), rtol=1e-5)
    for part in found.forces:
        np.testing.assert_allclose(part[:, 0], 2.0)
        np.testing.assert_allclose(part[:, 1], forces, rtol=1e-5)


def test_no_frame_of_another_set_is_trained_on(guard):
    for draw in (guard[1].ethanol, guard[1].copper_alloys, guard[1].oc20):
        frames = draw(None)
        trained = {a.positions.tobytes() for part in ("train", "val") for a in frames[part]}
        others = [a for name, part in frames.items() if name not in ("train", "val") for a in part]
        assert not trained & {a.positions.tobytes() for a in others}


def test_the_tables_count_what_passes_and_what_is_stopped(guard):
    judging, kinds, report = guard
    changed = {change: ["in kcal/mol"] for change in judging.CHANGES} | {"meV": []}
    errors = dict.fromkeys((kinds.OTHER, kinds.HARDEST), judging.Errors(1.0, 2.0, 3.0))
    proper = {kinds.OTHER: [], kinds.HARDEST: ["wrong"]}
    text = report.markdown([judging.Judged("oc20", errors, proper, changed)])
    assert "1 of 2 proper pairs pass." in text
    assert f"{len(changed) - 1} of {len(changed)} changed sets are stopped." in text
    assert "| meV | **passes** |" in text
