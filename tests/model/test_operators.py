"""What is asked of a GPU in a training step, counted without one."""

from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# Additions that may meet in one row, and what waits for the device.
COLLIDING = {"index_put", "index_put_", "_index_put_impl_", "index_add", "index_add_",
             "embedding_dense_backward", "scatter_add", "scatter_add_"}  # fmt: skip
WAITING = {"_local_scalar_dense", "nonzero", "masked_select", "bincount", "_unique2", "equal"}


@pytest.fixture(scope="module", params=["sample", "Equiformer"])
def counts(request):
    """Of models whose backbone and heads run on the meta device, Equiformer's with derivative."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        import operators

        return request.param, operators.counted(operators.cases()[request.param]())


def test_no_derivative_adds_to_rows_at_the_same_time(counts):
    _, (_, training) = counts
    found = {name for file, name in training.names if not file.startswith("graphs/")}
    assert "segment_reduce" in found
    assert not found & COLLIDING


def test_nothing_after_the_making_of_edges_waits_for_the_device(counts):
    for count in counts[1]:
        waiting = {key for key in count.names if key[1] in WAITING}
        assert {file for file, _ in waiting} <= {"graphs/build", "graphs/checks"}


def test_a_training_step_asks_for_no_more_than_it_did(counts):
    """The tables of docs/speed.md, which leave out the making of edges, and a little more."""
    name, found = counts
    model = [
        sum(n for file, n in count.launches.items() if not file.startswith("graphs/"))
        for count in found
    ]
    most = {"sample": (380, 980), "Equiformer": (1400, 4800)}[name]
    assert model[0] <= most[0]
    assert model[1] <= most[1]
