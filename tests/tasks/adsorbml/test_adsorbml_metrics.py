"""Success rates and speed-ups against cases worked out by hand."""

from __future__ import annotations

import math

import pytest

from eqv2_plugin.tasks.adsorbml.metrics import DftResult, score
from eqv2_plugin.tasks.adsorbml.report import success_plot

# Reference -2.0 eV. Single points in the order of the prediction: 0.5, 0.1 above, and 0.2 below.
RANKED = {"a": ["p", "q", "r"]}
POINTS = {
    ("a", "p"): DftResult(-1.5),
    ("a", "q"): DftResult(-1.9),
    ("a", "r"): DftResult(-2.2),
}
REFERENCE = {"a": DftResult(-2.0)}


def rates(found) -> list[tuple[float, float]]:
    return [(row.success_rate, row.much_better_rate) for row in found.rows]


def test_success_is_within_a_tenth_of_an_ev_or_below():
    found = score(RANKED, POINTS, REFERENCE)
    assert rates(found) == [(0, 0), (1, 0), (1, 1), (1, 1), (1, 1)]
    assert found.differences["a"] == pytest.approx((0.5, 0.1, -0.2, -0.2, -0.2))
    assert success_plot(found).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("energy", "expected"),
    # Exactly 0.1 counts, whatever binary numbers make of it.
    [(-1.8999, (0, 0)), (-1.9, (1, 0)), (-2.1, (1, 0)), (-2.1001, (1, 1))],
)
def test_limits_are_a_tenth_of_an_ev_on_both_sides(energy, expected):
    found = score({"a": ["p"]}, {("a", "p"): DftResult(energy)}, REFERENCE)
    assert rates(found)[0] == expected


def test_a_missing_dft_result_takes_its_place_among_the_k():
    points = {**POINTS, ("a", "q"): DftResult(None)}
    del points[("a", "p")]
    found = score(RANKED, points, REFERENCE)
    assert rates(found)[:3] == [(0, 0), (0, 0), (1, 1)]
    assert [row.missing for row in found.rows] == [1, 2, 2, 2, 2]
    assert found.differences["a"][:2] == (math.inf, math.inf)


def test_rates_are_shares_of_the_reference_systems():
    """Those that were not run, or have no valid placement, are failures; others do not count."""
    ranked = {**RANKED, "empty": [], "new": ["p"]}
    references = {
        **REFERENCE,
        "empty": DftResult(-1.0),
        "absent": DftResult(-1.0),
        "b": REFERENCE["a"],
    }
    found = score({**ranked, "b": ["p"]}, {**POINTS, ("b", "p"): DftResult(-2.0)}, references)
    assert rates(found) == [(0.25, 0), (0.5, 0), (0.5, 0.25), (0.5, 0.25), (0.5, 0.25)]
    assert found.no_valid == ("empty",)
    assert found.no_results == ("absent",)
    assert found.no_reference == ("new",)
    assert list(found.differences) == ["a", "empty", "absent", "b"]
    assert [row.missing for row in found.rows] == [0] * 5


def test_without_references_there_is_nothing_to_score():
    with pytest.raises(ValueError, match="no system with a DFT reference"):
        score(RANKED, POINTS, {})


def test_speed_up_is_the_ratio_of_all_steps():
    ranked = {"a": ["p", "q"], "b": ["p"], "no reference": ["p"]}
    points = {
        ("a", "p"): DftResult(-2.0, scf_steps=20, ionic_steps=1),
        ("a", "q"): DftResult(-2.0, scf_steps=30, ionic_steps=1),
        ("b", "p"): DftResult(-1.0, scf_steps=10, ionic_steps=1),
        ("no reference", "p"): DftResult(0.0, scf_steps=90, ionic_steps=1),
    }
    references = {
        "a": DftResult(-2.0, scf_steps=60000, ionic_steps=3000),
        "b": DftResult(-1.0, scf_steps=30000, ionic_steps=900),
        "not run": DftResult(-1.0, scf_steps=0, ionic_steps=0),
    }
    found = score(ranked, points, references)
    assert [row.scf_speedup for row in found.rows[:2]] == [90000 / 30, 90000 / 60]
    assert [row.ionic_speedup for row in found.rows[:2]] == [3900 / 2, 3900 / 3]


def test_without_counted_steps_there_is_no_speed_up():
    found = score(RANKED, POINTS, {"a": DftResult(-2.0, scf_steps=1000)})
    assert {row.scf_speedup for row in found.rows} == {None}
    assert {row.ionic_speedup for row in found.rows} == {None}
