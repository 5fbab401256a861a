"""The history of a run after kills and full disks."""

from __future__ import annotations

import resource

import pytest

from eqv2_plugin.training.history import History

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
    before, size = resource.getrlimit(resource.RLIMIT_FSIZE), history.path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*history\.jsonl.*goes on"):
            history.append({"step": 12, "splits": {}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert history.path.stat().st_size == size
    assert history.read() == RECORDS
