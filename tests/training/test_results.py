"""The history of a run after kills and full disks, and when its results count as complete."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from helpers import no_file_beyond

from eqv2_plugin.training.results import (
    History,
    are_complete,
    mark_finished,
    mark_if_missing,
    unmark,
)

FILES = ("metrics.json", "inference_ckpt.pt", "learning_curve.png", "history.jsonl")
PNG = b"\x89PNG picture IEND\xaeB`\x82"


@pytest.fixture
def results(tmp_path) -> Path:
    """As a version without marker left them."""
    (tmp_path / "metrics.json").write_text(json.dumps({"steps": 6, "splits": {}}))
    with zipfile.ZipFile(tmp_path / "inference_ckpt.pt", "w") as file:
        file.writestr("weights", "numbers")
    (tmp_path / "learning_curve.png").write_bytes(PNG)
    (tmp_path / "history.jsonl").write_text('{"step": 0}\n')
    return tmp_path


def test_results_with_a_marker_are_complete(results):
    mark_finished(results, 6)
    assert are_complete(results)
    marker = json.loads((results / "finished.json").read_text())
    assert marker["steps"] == 6
    assert set(marker["files"]) == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_gone_or_cut_off_makes_them_incomplete(results, name):
    mark_finished(results, 6)
    content = (results / name).read_bytes()
    (results / name).write_bytes(content[:-1])
    assert not are_complete(results)
    (results / name).unlink()
    assert not are_complete(results)


def test_whole_results_of_older_versions_are_complete(results):
    assert are_complete(results)


@pytest.mark.parametrize("name", FILES[:3])
@pytest.mark.parametrize("left", [0, 10])
def test_half_written_results_of_older_versions_are_not(results, name, left):
    (results / name).write_bytes((results / name).read_bytes()[:left])
    assert not are_complete(results)


def test_complete_results_get_the_marker_that_a_kill_left_out(results):
    mark_if_missing(results)
    marker = (results / "finished.json").read_bytes()
    assert json.loads(marker)["steps"] == 6
    (results / "later.txt").write_text("a file of the user's")
    mark_if_missing(results)
    assert (results / "finished.json").read_bytes() == marker


def test_a_run_that_goes_on_is_no_longer_finished(results):
    mark_finished(results, 6)
    unmark(results)
    assert not are_complete(results)
    unmark(results)


def test_a_damaged_marker_counts_for_nothing(results):
    (results / "finished.json").write_text("")
    assert not are_complete(results)


RECORDS = [{"step": 0, "splits": {}}, {"step": 6, "splits": {"val": {"energy_mae_meV": 1.5}}}]


@pytest.fixture
def history(tmp_path) -> History:
    made = History(tmp_path)
    for record in RECORDS:
        made.append(record)
    return made


def test_what_is_written_is_read(history):
    assert history.read() == RECORDS
    assert History(history.path.parent / "nowhere").read() == []


def test_an_incomplete_last_line_is_left_out_and_told(history, capsys):
    with history.path.open("a") as file:
        file.write('{"step": 12, "spl')
    assert history.read() == RECORDS
    assert "last line is incomplete" in capsys.readouterr().out
    history.restart(6)
    history.append({"step": 12})
    assert history.read() == [*RECORDS, {"step": 12}]


@pytest.mark.parametrize("damage", ['{"step": 0, "spl', "[1, 2]", "\0\0\0"])
def test_another_damaged_line_is_named(history, damage):
    lines = history.path.read_text().splitlines()
    history.path.write_text("\n".join([damage, *lines[1:]]) + "\n")
    with pytest.raises(ValueError, match=r"history\.jsonl is damaged in line 1"):
        history.read()


def test_a_resumed_run_keeps_what_was_before_its_checkpoint(history):
    history.restart(5)
    assert history.read() == RECORDS[:1]
    history.restart(0)
    assert history.read() == []


def test_a_full_disk_leaves_the_lines_before(history):
    size = history.path.stat().st_size
    refused = pytest.raises(OSError, match=r"cannot write .*history\.jsonl.*goes on")
    with no_file_beyond(size + 5), refused:
        history.append({"step": 12, "splits": {}})
    assert history.path.stat().st_size == size
    assert history.read() == RECORDS
