"""A conversion that is killed, at any point, is continued by the same command."""

import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from glob import glob
from pathlib import Path

import pytest
from downloads import contents, convert_raw, download, read_by_fairchem, sample, write_pair
from kill_at_call import kill_at_call, own_progress_bar

from eqv2_plugin.common.locks import folder_lock
from eqv2_plugin.data.conversion import folder as output_folder
from eqv2_plugin.data.conversion import shard as shard_writer

PAIRS, FRAMES = 3, 2
# One rename for the manifest, two for each shard and its record, one for each when all are
# published, and two for the metadata.
RENAMES = 1 + 2 * PAIRS + PAIRS + 2
METADATA = "metadata.npz"


def finished(out: Path) -> dict[str, int]:
    """Times of writing of the shards that are finished, wherever they are."""
    records = {path.stem for path in (out / ".conversion").glob("data.*.npz")}
    files = {p.name: p for place in (out, out / ".conversion") for p in place.glob("*.aselmdb")}
    return {n: p.stat().st_mtime_ns for n, p in files.items() if Path(n).stem in records}


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    return download(tmp_path_factory.mktemp("raw"), PAIRS, FRAMES)


@pytest.fixture(scope="module")
def expected(raw, tmp_path_factory) -> list:
    out = tmp_path_factory.mktemp("expected") / "out"
    convert_raw(raw, out)
    return contents(out)


POINTS = [
    *((os, "replace", calls) for calls in range(1, RENAMES + 1)),
    (shard_writer, "check_frame", 1),
    (shard_writer, "check_frame", FRAMES + 2),
    (shard_writer, "_write_batch", 2),
    (output_folder, "begin", 1),
    (output_folder, "save_npz", 1),
]


@pytest.mark.parametrize(
    ("module", "name", "calls"), POINTS, ids=[f"{name}-{calls}" for _, name, calls in POINTS]
)
def test_a_run_killed_at_any_point_is_continued(tmp_path, raw, expected, module, name, calls):
    out = tmp_path / "out"
    kill_at_call(module, name, calls, convert_raw, raw, out)
    before = finished(out)
    assert not (out / METADATA).exists()
    summary = convert_raw(raw, out)
    assert summary.finished_before == len(before)
    assert contents(out) == expected
    assert finished(out).items() >= before.items()
    assert len(read_by_fairchem(out)) == PAIRS * FRAMES
    left = {path.name for path in (out / ".conversion").iterdir()}
    assert left == {"lock", "manifest.json", *(f"data.{i:04d}.npz" for i in range(PAIRS))}


def test_all_points_of_renaming_are_tried(tmp_path, raw, monkeypatch):
    calls = []
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append(paths), replace(*paths)))
    convert_raw(raw, tmp_path / "out")
    assert len(calls) == RENAMES


def test_no_database_can_be_seen_before_all_are_finished(tmp_path, raw):
    out = tmp_path / "out"
    # All but the last record is there.
    kill_at_call(os, "replace", 1 + 2 * PAIRS, convert_raw, raw, out)
    assert len(finished(out)) == PAIRS - 1
    assert glob(f"{out}/*") == []  # as fairchem looks for databases


def slow_run(raw: Path, out: Path) -> None:
    write = shard_writer._write_batch

    def slowly(*arguments):
        time.sleep(0.3)
        write(*arguments)

    shard_writer._write_batch = slowly
    own_progress_bar()
    convert_raw(raw, out, workers=2)


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")
def test_workers_end_with_a_killed_command_and_it_is_continued(tmp_path):
    raw, out = download(tmp_path / "raw", 8, 1), tmp_path / "out"
    process = multiprocessing.get_context("fork").Process(target=slow_run, args=(raw, out))
    process.start()
    wait_for(lambda: out.exists() and len(finished(out)) >= 2)
    workers = children(process.pid)
    assert len(workers) == 2
    process.kill()
    process.join()
    before = finished(out)
    assert 2 <= len(before) < 8
    assert not (out / METADATA).exists()
    summary = convert_raw(raw, out, workers=2)  # waits for the workers to end
    assert not any(runs(worker) for worker in workers)
    assert 2 <= summary.finished_before < 8
    assert summary.frames == len(contents(out)) == 8
    assert finished(out).items() >= before.items()


def test_a_finished_conversion_is_left_as_it_is(tmp_path, raw):
    out = tmp_path / "out"
    convert_raw(raw, out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("*")}
    summary = convert_raw(raw, out)
    assert (summary.frames, summary.finished_before) == (PAIRS * FRAMES, PAIRS)
    assert {path: path.stat().st_mtime_ns for path in out.glob("*")} == before


def test_another_source_of_the_same_names_is_refused(tmp_path, raw):
    convert_raw(raw, tmp_path / "out")
    other = download(tmp_path / "other", PAIRS, FRAMES)
    with pytest.raises(ValueError, match=r"something else .*10\.extxyz.*another --out"):
        convert_raw(other, tmp_path / "out")


@pytest.mark.parametrize("change", ["longer", "more"])
def test_a_changed_source_is_refused(tmp_path, change):
    raw = download(tmp_path / "raw", 2, 2)
    convert_raw(raw, tmp_path / "out")
    if change == "more":
        write_pair(raw, "30", sample(1))
    else:
        with (raw / "9.txt").open("a") as file:
            file.write("\n")
    named = r"30\.txt: None -> \d+" if change == "more" else r"9\.txt: \d+ -> \d+"
    with pytest.raises(ValueError, match=rf"something else \(.*files.*{named}"):
        convert_raw(raw, tmp_path / "out")


def test_another_kind_of_energy_is_refused(tmp_path, raw):
    convert_raw(raw, tmp_path / "out")
    with pytest.raises(ValueError, match=r"options.energy: referenced -> total"):
        convert_raw(raw, tmp_path / "out", "total")


def test_two_runs_at_once_are_refused(tmp_path, raw, monkeypatch):
    monkeypatch.setattr(output_folder, "folder_lock", partial(folder_lock, wait=0.2))
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); "
        "fcntl.flock(f, fcntl.LOCK_EX); print('locked', flush=True); time.sleep(60)"
    )
    (tmp_path / "out" / ".conversion").mkdir(parents=True)
    lock = tmp_path / "out" / ".conversion" / "lock"
    process = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(RuntimeError, match=r"another run is writing to .*out"):
            convert_raw(raw, tmp_path / "out")
    finally:
        process.kill()
        process.communicate()
    assert convert_raw(raw, tmp_path / "out").frames == PAIRS * FRAMES


def test_a_lost_database_of_a_finished_conversion_is_told(tmp_path, raw):
    convert_raw(raw, tmp_path / "out")
    (tmp_path / "out" / "data.0001.aselmdb").unlink()
    with pytest.raises(ValueError, match=r"1 database\(s\) of .*out are gone"):
        convert_raw(raw, tmp_path / "out")


def test_a_lost_database_of_an_unfinished_conversion_is_made_again(tmp_path, raw, expected):
    out = tmp_path / "out"
    kill_at_call(output_folder, "save_npz", 1, convert_raw, raw, out)
    (out / "data.0001.aselmdb").unlink()
    assert convert_raw(raw, out).finished_before == PAIRS - 1
    assert contents(out) == expected


@pytest.mark.parametrize("name", ["manifest.json", "data.0001.npz"])
def test_damaged_notes_of_an_unfinished_conversion_are_told(tmp_path, raw, expected, name):
    out = tmp_path / "out"
    kill_at_call(output_folder, "save_npz", 1, convert_raw, raw, out)
    path = out / ".conversion" / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match=rf"{name} is damaged.*remove {out} and start again"):
        convert_raw(raw, out)
    shutil.rmtree(out)
    convert_raw(raw, out)
    assert contents(out) == expected
