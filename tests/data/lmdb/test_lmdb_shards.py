"""Files and folders: order, damage, open files, processes."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from lmdb_inputs import attributes, pyg1, write_frames, write_lmdb

from eqv2_plugin.data.lmdb import lmdb_frames
from eqv2_plugin.data.lmdb.records import read_record
from eqv2_plugin.data.lmdb.shards import MAX_OPEN, Shards

FILE_HANDLES = Path("/proc/self/fd")


def sids(shards: Shards) -> list[int]:
    return [int(read_record(shards.read(i)).sid) - 100 for i in range(len(shards))]


def test_records_come_in_the_order_of_file_names_and_keys(tmp_path):
    # More than ten: the keys are numbers, whose order is not that of their text.
    write_frames(tmp_path / "data.0001.lmdb", 3, first=12)
    write_frames(tmp_path / "data.0000.lmdb", 12)
    write_frames(tmp_path / "data.0002.lmdb", 1, first=15)
    (tmp_path / "data_log.0000.txt").write_text("random1,frame1\n")
    shards = Shards.at(tmp_path)
    assert sids(shards) == list(range(16))
    assert [shards.locate(i) for i in (0, 11, 12, 15)] == [(0, 0), (0, 11), (1, 0), (2, 0)]


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_record_beyond_the_ends(tmp_path, index):
    shards = Shards.at(write_frames(tmp_path / "data.lmdb", 3))
    with pytest.raises(IndexError, match=f"record {index} of 3"):
        shards.read(index)


def test_without_a_length_entry_all_entries_count(tmp_path):
    records = [pyg1(attributes(i)) for i in range(12)]
    assert sids(Shards.at(write_lmdb(tmp_path / "a.lmdb", records, length=None))) == [*range(12)]


def test_an_empty_file_among_others_is_no_error(tmp_path):
    write_lmdb(tmp_path / "a.lmdb", [])
    write_frames(tmp_path / "b.lmdb", 2)
    write_lmdb(tmp_path / "c.lmdb", [], length=None)
    assert sids(Shards.at(tmp_path)) == [0, 1]


def test_a_data_set_without_records_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no record in"):
        Shards.at(write_lmdb(tmp_path / "a.lmdb", []))


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "data.mdb").touch()
    with pytest.raises(FileNotFoundError, match=r"no \*\.lmdb file in the folder"):
        Shards.at(tmp_path)


def test_a_wrong_path_shows_at_the_call(tmp_path):
    with pytest.raises(FileNotFoundError, match="there does not exist"):
        lmdb_frames(tmp_path / "there")


@pytest.mark.parametrize("content", [b"", b"text\n", b"some text\n" * 5000])
def test_a_file_that_is_no_lmdb_is_named(tmp_path, content):
    write_frames(tmp_path / "a.lmdb", 2)
    (tmp_path / "b.lmdb").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot open .*b\.lmdb as LMDB"):
        Shards.at(tmp_path)


def test_a_folder_named_like_a_file_is_named(tmp_path):
    (tmp_path / "data.lmdb").mkdir()
    (tmp_path / "data.lmdb" / "data.mdb").touch()
    with pytest.raises(ValueError, match=r"cannot open .*data\.lmdb as LMDB"):
        Shards.at(tmp_path)


@pytest.mark.parametrize("part", [0.3, 0.99])
def test_a_file_that_is_cut_off_is_refused(tmp_path, part):
    path = write_frames(tmp_path / "data.lmdb", 40)
    with path.open("r+b") as file:
        file.truncate(int(part * path.stat().st_size))
    with pytest.raises(ValueError, match=r"data\.lmdb is cut off: \d+ of \d+ bytes"):
        Shards.at(path)


@pytest.mark.parametrize("keys", ["0 1 3", "1 2 3", "0 1 3 4", "a b c"])
@pytest.mark.parametrize("length", [None, True])
def test_a_gap_in_the_keys_is_refused(tmp_path, keys, length):
    names = keys.split()
    path = write_lmdb(
        tmp_path / "data.lmdb", [pyg1(attributes(i)) for i in range(len(names))], length, names
    )
    with pytest.raises(ValueError, match=r"record.*data\.lmdb|data\.lmdb.*keys '0' to"):
        sids(Shards.at(path))


@pytest.mark.parametrize("keys", ["0 1 3", "0 1 3 4"])
def test_most_gaps_are_seen_before_anything_is_read(tmp_path, keys):
    records = [pyg1(attributes(i)) for i in range(len(keys.split()))]
    path = write_lmdb(tmp_path / "data.lmdb", records, length=None, keys=keys.split())
    with pytest.raises(ValueError, match=rf"data\.lmdb should have {len(records)} records"):
        Shards.at(path)


def test_a_gap_in_the_middle_names_the_missing_record(tmp_path):
    keys = ["0", "1", "3", "4", "more"]
    records = [pyg1(attributes(i)) for i in range(5)]
    shards = Shards.at(write_lmdb(tmp_path / "data.lmdb", records, length=None, keys=keys))
    with pytest.raises(ValueError, match=r"record '2' of .*data\.lmdb is missing"):
        sids(shards)


@pytest.mark.parametrize("length", [4, -1, 2.0, "3", True])
def test_a_wrong_length_entry_is_refused(tmp_path, length):
    stored = [length] if length is True else length
    path = write_lmdb(tmp_path / "data.lmdb", [pyg1(attributes(i)) for i in range(3)], stored)
    with pytest.raises(ValueError, match="has 3 records, but its entry 'length' says"):
        Shards.at(path)


def test_a_smaller_length_entry_hides_records_as_in_fairchem_1(tmp_path):
    path = write_lmdb(tmp_path / "data.lmdb", [pyg1(attributes(i)) for i in range(3)], length=2)
    assert sids(Shards.at(path)) == [0, 1]


def open_files(folder: Path) -> int:
    """Handles of this process on files of a folder; others come and go with other tests."""
    count = 0
    for handle in FILE_HANDLES.iterdir():
        # The handle of this very listing is gone by the time that it is read.
        with contextlib.suppress(FileNotFoundError):
            count += handle.readlink().is_relative_to(folder)
    return count


@pytest.mark.skipif(not FILE_HANDLES.exists(), reason="needs /proc to count open files")
def test_few_files_are_open_and_none_afterwards(tmp_path):
    path = write_frames(tmp_path / "data.0000.lmdb", 2)
    for i in range(1, MAX_OPEN + 10):
        shutil.copy(path, tmp_path / f"data.{i:04d}.lmdb")
    shards = Shards.at(tmp_path)
    assert open_files(tmp_path) == 0
    for _ in range(2):
        assert sids(shards) == [0, 1] * (MAX_OPEN + 10)
        assert open_files(tmp_path) == MAX_OPEN
    del shards
    gc.collect()
    assert open_files(tmp_path) == 0


def test_a_replaced_file_is_read_by_a_new_data_set(tmp_path):
    path = write_frames(tmp_path / "data.lmdb", 2)
    first = Shards.at(path)
    assert sids(first) == [0, 1]
    path.unlink()
    write_frames(path, 3, first=5)
    assert sids(Shards.at(path)) == [5, 6, 7]
    assert sids(first) == [0, 1]


def opened_there(shards: Shards, results) -> None:
    misses = shards._open.cache_info().misses
    results.put((sids(shards), shards._open.cache_info().misses - misses))


def test_a_forked_process_opens_files_itself(tmp_path):
    shards = Shards.at(write_frames(tmp_path / "data.lmdb", 2))
    assert sids(shards) == [0, 1]
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=opened_there, args=(shards, results))
    process.start()
    assert results.get(timeout=60) == ([0, 1], 1)
    process.join()
    assert sids(shards) == [0, 1]


def test_the_index_of_a_million_records_is_small():
    shards = Shards([f"/data/s2ef/train/data.{i:04d}.lmdb" for i in range(1000)], [1000] * 1000)
    assert len(shards) == 1_000_000
    assert shards.locate(999_999) == (999, 999)
    assert len(pickle.dumps(shards)) < 100_000
    copy = pickle.loads(pickle.dumps(shards))
    assert copy.paths == shards.paths
    np.testing.assert_array_equal(copy.ends, shards.ends)
