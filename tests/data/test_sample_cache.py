"""The cache folder of the embedded OC20 sample: one whole dataset, whoever builds it."""

import multiprocessing
import time
from functools import partial
from pathlib import Path

import pytest
from kill_at_call import kill_at_call

from eqv2_plugin.common import files
from eqv2_plugin.data import sample
from eqv2_plugin.data.sample import sample_directory

oc20_sample_directory = partial(sample_directory, "oc20_sample")

# Importing the package again would take seconds.
FORK = multiprocessing.get_context("fork")


def build_when_both_are_there(cache: Path, meeting: Path, answers) -> None:
    """Build one split; wait, with the finished database still unnamed, until both have one."""
    rename = files.os.rename

    def rename_together(building, folder):
        (meeting / building.name).touch()
        while len(list(meeting.iterdir())) < 2:
            time.sleep(0.01)
        rename(building, folder)

    files.os.rename = rename_together
    answers.put(str(oc20_sample_directory("val_id", cache)))


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
    answers = FORK.Queue()
    arguments = (cache, meeting, answers)
    racers = [FORK.Process(target=build_when_both_are_there, args=arguments) for _ in range(2)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
        racer.kill()
    assert [racer.exitcode for racer in racers] == [0, 0]
    (folder,) = cache.iterdir()
    assert [answers.get(timeout=10) for _ in racers] == [str(folder)] * 2
    assert {path.name for path in folder.iterdir()} == {"sample.aselmdb", "metadata.npz"}


def test_what_a_killed_process_left_is_not_taken_for_a_dataset_and_removed(tmp_path):
    # Before the metadata.
    kill_at_call(sample.np, "savez", 1, oc20_sample_directory, "val_id", tmp_path)
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
