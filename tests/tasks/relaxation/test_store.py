"""Finished relaxations survive whatever ends the process."""

from __future__ import annotations

import numpy as np
import pytest
from relaxation_inputs import SHORT, emt, surfaces

from eqv2_plugin.inference.batch_size import BatchLimit
from eqv2_plugin.inference.lockstep import relax_many
from eqv2_plugin.inference.predictor import Prediction
from eqv2_plugin.inference.relaxation import Relaxed
from eqv2_plugin.inference.store import (
    RelaxationStore,
    as_relaxed,
    read_finished,
    read_made_with,
)

MADE_WITH = {"checkpoint_sha256": "ab", "settings": {"fmax": 0.02}}


@pytest.fixture(scope="module")
def relaxed() -> list[Relaxed]:
    def predict(batch):
        # The one of three atoms fails at once.
        return [
            p if len(a) != 4 else Prediction(np.nan, p.forces)
            for p, a in zip(emt(batch), batch, strict=True)
        ]

    return list(relax_many(surfaces(3), predict, SHORT, batch=BatchLimit(structures=3)))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results" / "relaxed.0-of-1.jsonl"


def write(path, relaxed):
    with RelaxationStore(path, MADE_WITH) as store:
        for one in relaxed:
            store.append(one)


def records(path) -> dict:
    return read_finished(path.parent).records


def test_what_was_stored_is_read_to_the_last_bit(path, relaxed):
    write(path, relaxed)
    initial = dict(surfaces(3))
    assert read_made_with(path.parent) == MADE_WITH
    found = [as_relaxed(record, initial[record["id"]]) for record in records(path).values()]
    assert {r.failed for r in found} == {True, False}
    for one, expected in zip(found, relaxed, strict=True):
        for name in ("id", "steps", "converged", "error"):
            assert getattr(one, name) == getattr(expected, name)
        for name in ("energy", "energies", "fmax", "forces"):
            np.testing.assert_array_equal(getattr(one, name), getattr(expected, name))
        np.testing.assert_array_equal(one.atoms.positions, expected.atoms.positions)
        np.testing.assert_array_equal(one.initial.positions, expected.initial.positions)


@pytest.mark.parametrize("lost", [1, 40, "all but one byte"])
def test_a_last_line_that_was_cut_off_is_dropped_and_written_again(path, relaxed, lost):
    write(path, relaxed)
    lines = path.read_bytes().splitlines(keepends=True)
    lost = len(lines[-1]) - 1 if isinstance(lost, str) else lost
    path.write_bytes(path.read_bytes()[:-lost])
    assert list(records(path)) == [r.id for r in relaxed[:2]]
    write(path, relaxed[2:])
    assert path.read_bytes() == b"".join(lines)


def test_a_description_that_was_cut_off_is_written_again(path, relaxed):
    write(path, relaxed)
    path.write_bytes(path.read_bytes()[:10])
    write(path, relaxed)
    assert read_made_with(path.parent) == MADE_WITH
    assert len(records(path)) == 3


def test_relaxations_made_with_something_else_are_refused(path, relaxed):
    write(path, relaxed)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint_sha256: ab -> cd.*run_name=NAME"):
        RelaxationStore(path, {**MADE_WITH, "checkpoint_sha256": "cd"})
    assert path.read_bytes() == before


def test_a_damaged_line_names_file_and_line(path, relaxed):
    write(path, relaxed)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:50] + b"\n" + lines[2])
    with pytest.raises(ValueError, match=r"relaxed\.0-of-1\.jsonl is damaged in line 2"):
        records(path)


def test_two_processes_do_not_write_to_one_file(path):
    with (
        RelaxationStore(path, MADE_WITH),
        pytest.raises(RuntimeError, match="another process is writing"),
    ):
        RelaxationStore(path, MADE_WITH)
    RelaxationStore(path, MADE_WITH).__exit__(None, None, None)


def test_a_full_disk_says_so_and_keeps_what_is_there(path, relaxed):
    write(path, relaxed[:1])
    with RelaxationStore(path, MADE_WITH) as store:
        whole = store._file
        with open("/dev/full", "wb", buffering=0) as full:
            store._file = full
            with pytest.raises(OSError, match=r"No space left.*make room and run the same"):
                store.append(relaxed[1])
        store._file = whole
    assert list(records(path)) == [relaxed[0].id]


def test_data_that_have_changed_since_are_noticed(path, relaxed):
    write(path, relaxed)
    record = records(path)[relaxed[0].id]
    with pytest.raises(ValueError, match="the data have changed"):
        as_relaxed(record, surfaces(3)[2][1][:1])
