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
    # Exactly 0.1 above counts, whatever binary numbers make of it.
    assert rates(found) == [(0, 0), (1, 0), (1, 1), (1, 1), (1, 1)]
    assert found.differences["a"] == pytest.approx((0.5, 0.1, -0.2, -0.2, -0.2))


@pytest.mark.parametrize(
    ("energy", "success", "much_better"),
    [
        (-1.8999, 0, 0),
        (-1.9, 1, 0),
        (-2.0, 1, 0),
        (-2.1, 1, 0),
        (-2.1001, 1, 1),
    ],
)
def test_limits_are_a_tenth_of_an_ev_on_both_sides(energy, success, much_better):
    found = score({"a": ["p"]}, {("a", "p"): DftResult(energy)}, REFERENCE, ks=(1,))
    assert rates(found) == [(success, much_better)]


def test_rates_are_shares_of_the_reference_systems():
    ranked = {name: ["p"] for name in "abcd"}
    energies = {"a": 0.0, "b": 0.05, "c": 0.2, "d": -0.5}
    points = {(name, "p"): DftResult(energy) for name, energy in energies.items()}
    found = score(ranked, points, {name: DftResult(0.0) for name in "abcd"}, ks=(1,))
    assert rates(found) == [(0.75, 0.25)]


def test_tied_single_points_count_once():
    ranked = {"a": ["p", "q"]}
    points = {("a", "p"): DftResult(-2.0), ("a", "q"): DftResult(-2.0)}
    found = score(ranked, points, REFERENCE, ks=(1, 2))
    assert rates(found) == [(1, 0), (1, 0)]


def test_a_missing_dft_result_takes_its_place_among_the_k():
    points = {**POINTS, ("a", "q"): DftResult(None)}
    del points[("a", "p")]
    found = score(RANKED, points, REFERENCE, ks=(1, 2, 3))
    assert rates(found) == [(0, 0), (0, 0), (1, 1)]
    assert [row.missing for row in found.rows] == [1, 2, 2]
    assert found.differences["a"][:2] == (math.inf, math.inf)


def test_a_system_without_valid_placements_is_a_failure():
    found = score({"a": ["p"], "b": []}, POINTS, {**REFERENCE, "b": DftResult(-1.0)}, ks=(1, 5))
    assert rates(found) == [(0, 0), (0, 0)]
    assert found.no_valid == ("b",)
    assert found.rows[0].missing == 0


def test_fewer_placements_than_k_are_all_taken():
    found = score({"a": ["p", "q"]}, POINTS, REFERENCE)
    assert rates(found) == [(0, 0), (1, 0), (1, 0), (1, 0), (1, 0)]


def test_a_system_that_was_not_run_is_a_failure():
    found = score(RANKED, POINTS, {**REFERENCE, "z": DftResult(-1.0)}, ks=(3,))
    assert rates(found) == [(0.5, 0.5)]
    assert found.no_results == ("z",)


def test_a_system_without_reference_does_not_count():
    found = score({**RANKED, "new": ["p"]}, POINTS, REFERENCE, ks=(3,))
    assert rates(found) == [(1, 1)]
    assert found.no_reference == ("new",)
    assert list(found.differences) == ["a"]


def test_without_references_there_is_nothing_to_score():
    with pytest.raises(ValueError, match="no system with a DFT reference"):
        score(RANKED, POINTS, {})


def test_speed_up_is_the_ratio_of_all_steps():
    ranked = {"a": ["p", "q"], "b": ["p"]}
    points = {
        ("a", "p"): DftResult(-2.0, scf_steps=20, ionic_steps=1),
        ("a", "q"): DftResult(-2.0, scf_steps=30, ionic_steps=1),
        ("b", "p"): DftResult(-1.0, scf_steps=10, ionic_steps=1),
    }
    references = {
        "a": DftResult(-2.0, scf_steps=60000, ionic_steps=3000),
        "b": DftResult(-1.0, scf_steps=30000, ionic_steps=900),
        "not run": DftResult(-1.0, scf_steps=0, ionic_steps=0),
    }
    found = score(ranked, points, references, ks=(1, 2))
    assert [row.scf_speedup for row in found.rows] == [90000 / 30, 90000 / 60]
    assert [row.ionic_speedup for row in found.rows] == [3900 / 2, 3900 / 3]


def test_steps_of_systems_without_reference_do_not_count():
    points = {("a", "p"): DftResult(-2.0, scf_steps=10), ("n", "p"): DftResult(0.0, scf_steps=90)}
    references = {"a": DftResult(-2.0, scf_steps=1000)}
    found = score({"a": ["p"], "n": ["p"]}, points, references, ks=(1,))
    assert found.rows[0].scf_speedup == 100


def test_without_counted_steps_there_is_no_speed_up():
    found = score(RANKED, POINTS, {"a": DftResult(-2.0, scf_steps=1000)})
    assert {row.scf_speedup for row in found.rows} == {None}
    assert {row.ionic_speedup for row in found.rows} == {None}


def test_the_plot_is_a_png():
    found = score(RANKED, POINTS, REFERENCE)
    assert success_plot(found).startswith(b"\x89PNG")
