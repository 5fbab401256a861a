"""The cache folder of the embedded OC20 sample: one whole dataset, whoever builds it."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from eqv2_plugin.data import sample
from eqv2_plugin.data.sample import sample_directory

oc20_sample_directory = partial(sample_directory, "oc20_sample")

# Builds one split; waits, with the finished database still unnamed, until both have one.
RACER = """
import sys, time
from pathlib import Path
from eqv2_plugin.data import sample

meeting, publish = Path(sys.argv[2]), sample._publish
def publish_together(building, folder):
    building_done = meeting / building.name
    building_done.touch()
    while len(list(meeting.iterdir())) < 2:
        time.sleep(0.01)
    publish(building, folder)
sample._publish = publish_together
print(sample.sample_directory("oc20_sample", "val_id", Path(sys.argv[1])))
"""

# Dies by SIGKILL with the database written and the metadata missing.
VICTIM = """
import os, signal, sys
from pathlib import Path
from eqv2_plugin.data import sample

sample.np.savez = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
sample.sample_directory("oc20_sample", "val_id", Path(sys.argv[1]))
"""


def start(code: str, *arguments: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_built_folder_is_used_again(tmp_path):
    first = oc20_sample_directory("val_id", tmp_path)
    written = (first / "sample.aselmdb").stat().st_mtime_ns
    assert oc20_sample_directory("val_id", tmp_path) == first
    assert (first / "sample.aselmdb").stat().st_mtime_ns == written


def test_another_sample_file_gets_its_own_folder(tmp_path, monkeypatch):
    first = oc20_sample_directory("val_id", tmp_path)
    original = sample.SAMPLE_FOLDER / "oc20_sample.npz"
    (tmp_path / original.name).write_bytes(original.read_bytes() + b"\0")
    monkeypatch.setattr(sample, "SAMPLE_FOLDER", tmp_path)
    assert oc20_sample_directory("val_id", tmp_path) != first


def test_two_processes_that_build_at_once_both_get_the_one_folder(tmp_path):
    cache, meeting = tmp_path / "cache", tmp_path / "meeting"
    meeting.mkdir()
    racers = [start(RACER, cache, meeting) for _ in range(2)]
    try:
        answers = [racer.communicate(timeout=120) for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
    assert [racer.returncode for racer in racers] == [0, 0], answers
    (folder,) = cache.iterdir()
    assert [out.strip() for out, _ in answers] == [str(folder)] * 2
    assert {path.name for path in folder.iterdir()} == {"sample.aselmdb", "metadata.npz"}


def test_what_a_killed_process_left_is_not_taken_for_a_dataset_and_removed(tmp_path):
    victim = start(VICTIM, tmp_path)
    _, errors = victim.communicate(timeout=120)
    assert victim.returncode == -signal.SIGKILL, errors
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.startswith(".")
    folder = oc20_sample_directory("val_id", tmp_path)
    assert folder != leftover
    assert (folder / "metadata.npz").is_file()
    assert list(tmp_path.iterdir()) == [folder]


def test_cache_folder_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EQV2_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert oc20_sample_directory("val_id").parent == tmp_path / "home/.cache/eqv2_plugin"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert oc20_sample_directory("val_id").parent == tmp_path / "xdg/eqv2_plugin"
    monkeypatch.setenv("EQV2_CACHE", str(tmp_path / "own"))
    assert oc20_sample_directory("val_id").parent == tmp_path / "own"


def test_unwritable_cache_gets_one_error_that_names_the_variable(tmp_path):
    # Below a file nobody can make a folder, not even root, whom permissions do not stop.
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="set EQV2_CACHE to a folder that can be written"):
        oc20_sample_directory("val_id", tmp_path / "file" / "cache")
