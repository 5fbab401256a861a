"""Bad input gives one error that names the file, the place and the fix."""

import errno
import lzma
import multiprocessing
import os
import re
import resource
import signal

import numpy as np
import pytest
from downloads import contents, convert_raw, download

from eqv2_plugin.data.conversion import job as worker_processes
from eqv2_plugin.data.conversion.raw_oc20 import find_pairs


@pytest.fixture
def raw(tmp_path):
    return download(tmp_path / "raw", pairs=2, frames=3)


def edit(path, before: str, after: str, times: int = 1) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, times))


def refused(raw, *fragments: str, energy: str = "referenced", workers: int = 1) -> str:
    """Convert; the error must contain the fragments in this order, and no data set be left."""
    pattern = ".*".join(re.escape(fragment) for fragment in fragments)
    out = raw.parent / "out"
    with pytest.raises((ValueError, FileNotFoundError), match=pattern) as caught:
        convert_raw(raw, out, energy, workers)
    assert not (out / "metadata.npz").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["10.extxyz", "10.txt"])
@pytest.mark.parametrize("workers", [1, 2])
def test_an_xz_file_that_is_cut_short_is_refused(raw, name, workers):
    packed = lzma.compress((raw / name).read_bytes())
    (raw / f"{name}.xz").write_bytes(packed[: len(packed) // 2])
    (raw / name).unlink()
    refused(raw, f"{name}.xz is cut short or damaged", "download it again", workers=workers)


def test_a_damaged_xz_file_is_refused(raw):
    packed = bytearray(lzma.compress((raw / "9.extxyz").read_bytes()))
    packed[len(packed) // 2] ^= 255
    (raw / "9.extxyz.xz").write_bytes(packed)
    (raw / "9.extxyz").unlink()
    refused(raw, "9.extxyz.xz is cut short or damaged")


def test_a_text_named_xz_is_refused(raw):
    (raw / "9.txt").rename(raw / "9.txt.xz")
    refused(raw, "9.txt.xz is cut short or damaged")


def test_an_extxyz_file_cut_within_a_frame_is_refused(raw):
    text = (raw / "9.extxyz").read_bytes()
    (raw / "9.extxyz").write_bytes(text[:-3])
    refused(raw, "9.extxyz, frame 2", "cut short, download")


def test_an_extxyz_file_with_too_few_frames_is_refused(raw):
    lines = (raw / "9.txt").read_text()
    (raw / "9.txt").write_text(lines + "random1,frame0,1.0\n")
    refused(raw, "9.txt has more lines than the other has frames, 3", "9.extxyz", "download both")


def test_a_text_file_with_too_few_lines_is_refused(raw):
    lines = (raw / "9.txt").read_text().splitlines(keepends=True)
    (raw / "9.txt").write_text("".join(lines[:2]))
    refused(raw, "9.txt has only 2 lines", "9.extxyz", "download both")


def test_files_without_frames_are_refused(raw):
    for name in ("9.extxyz", "9.txt"):
        (raw / name).write_text("")
    refused(raw, "9.extxyz holds no frame")


@pytest.mark.parametrize(
    "line", ["random12,frame3", "12,frame3,1.0", "random12,3,1.0", "random12,frame3,1.0,2.0", ""]
)
def test_a_malformed_line_is_refused(raw, line):
    lines = (raw / "9.txt").read_text().splitlines()
    lines[1] = line
    (raw / "9.txt").write_text("\n".join(lines) + "\n")
    refused(raw, f"9.txt, line 2: {line!r} is not random<sid>,frame<fid>,<reference energy>")


def test_a_malformed_line_of_test_data_is_refused(raw):
    edit(raw / "9.txt", "random", "sid")
    refused(raw, "9.txt, line 1: 'sid", energy="none")


@pytest.mark.parametrize("value", ["nan", "inf", "12.x"])
def test_a_reference_energy_that_is_no_finite_number_is_refused(raw, value):
    (raw / "9.txt").write_text(f"random12,frame3,{value}\n")
    refused(raw, f"9.txt, line 1: the reference energy '{value}' is not a finite number")


def test_an_extxyz_file_without_text_file_is_refused(raw):
    (raw / "9.txt").unlink()
    refused(raw, "9.extxyz has no partner 9.txt or 9.txt.xz")


def test_a_text_file_without_extxyz_file_is_refused(raw):
    (raw / "9.extxyz").unlink()
    refused(raw, "9.txt has no partner 9.extxyz or 9.extxyz.xz")


def test_a_file_that_is_there_packed_and_plain_is_refused(raw):
    (raw / "9.txt.xz").write_bytes(lzma.compress((raw / "9.txt").read_bytes()))
    refused(raw, "9.txt.xz and 9.txt", "keep one")


def test_a_frame_without_energy_is_refused(raw):
    edit(raw / "9.extxyz", " energy=", " other=", 2)
    refused(raw, "9.extxyz, frame 0: it has no energy", "--test-data")


def test_a_frame_without_forces_is_refused(raw):
    text = (raw / "10.extxyz").read_text().replace(":forces:R:3", "")
    lines = [
        " ".join(words[:6]) if len(words := line.split()) == 9 else line
        for line in text.splitlines()
    ]
    (raw / "10.extxyz").write_text("\n".join(lines) + "\n")
    refused(raw, "10.extxyz, frame 0: it has no forces", "--test-data")


def test_an_energy_that_is_not_finite_is_refused(raw):
    text = (raw / "9.extxyz").read_text()
    (raw / "9.extxyz").write_text(re.sub(r" energy=\S+", " energy=nan", text, count=1))
    refused(raw, "9.extxyz, frame 0: energy has a value that is not finite")


@pytest.mark.parametrize(("column", "name"), [(-1, "forces"), (2, "positions")])
def test_a_value_of_an_atom_that_is_not_finite_is_refused(raw, column, name):
    lines = (raw / "9.extxyz").read_text().splitlines()
    words = lines[2].split()
    words[column] = "inf"
    lines[2] = " ".join(words)
    (raw / "9.extxyz").write_text("\n".join(lines) + "\n")
    refused(raw, f"9.extxyz, frame 0: {name} has a value that is not finite")


def test_two_frames_of_one_file_with_the_same_id_are_refused(raw):
    lines = (raw / "9.txt").read_text().splitlines()
    lines[2] = lines[0]
    (raw / "9.txt").write_text("\n".join(lines) + "\n")
    name = lines[0].rsplit(",", 1)[0].replace(",frame", "_")
    refused(
        raw, f"two frames have the id {name}: ", "9.extxyz, frame 0, and ", "9.extxyz, frame 2."
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_two_frames_of_different_files_with_the_same_id_are_refused(raw, workers):
    first = (raw / "9.txt").read_text().splitlines()[2]
    lines = (raw / "10.txt").read_text().splitlines()
    (raw / "10.txt").write_text("\n".join([lines[0], first, lines[2]]) + "\n")
    refused(raw, "9.extxyz, frame 2, and ", "10.extxyz, frame 1.", workers=workers)


def test_the_same_frame_number_of_other_systems_is_no_duplicate(raw):
    (raw / "9.txt").write_text("random1,frame11,0\nrandom11,frame1,0\nrandom1,frame1,0\n")
    assert convert_raw(raw, raw.parent / "out").frames == 6


def test_ids_whose_keys_agree_by_chance_are_no_duplicates(raw, monkeypatch):
    monkeypatch.setattr("eqv2_plugin.data.conversion.shard.id_key", lambda info: 7)
    assert convert_raw(raw, raw.parent / "out").frames == 6


def test_duplicates_in_a_shard_of_several_files_are_placed(raw, monkeypatch):
    monkeypatch.setattr("eqv2_plugin.data.conversion.job._MAX_SHARDS", 1)
    first = (raw / "9.txt").read_text().splitlines()[1]
    lines = (raw / "10.txt").read_text().splitlines()
    (raw / "10.txt").write_text("\n".join([first, *lines[1:]]) + "\n")
    refused(raw, "9.extxyz, frame 1, and ", "10.extxyz, frame 0.")


def test_a_folder_without_files_is_refused(tmp_path):
    (tmp_path / "raw").mkdir()
    refused(tmp_path / "raw", "no file <n>.extxyz or <n>.extxyz.xz in ", "raw")


def test_files_one_folder_below_are_pointed_to(tmp_path):
    download(tmp_path / "raw" / "s2ef_train_200K")
    refused(tmp_path / "raw", "there are some in its folder(s) s2ef_train_200K")


@pytest.mark.parametrize("name", ["nothing", "s2ef_train_200K.tar"])
def test_what_is_no_folder_is_refused(tmp_path, name):
    if name.endswith("tar"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=rf"{name} is not a folder. Unpack"):
        find_pairs(tmp_path / name, "total")


@pytest.mark.parametrize("name", ["old.aselmdb", "metadata.npz", "notes.txt"])
def test_an_output_folder_that_holds_something_else_is_refused(raw, name):
    out = raw.parent / "out"
    out.mkdir()
    (out / name).write_text("precious")
    with pytest.raises(ValueError, match=rf"out holds something else \({name}\).*another --out"):
        convert_raw(raw, out)
    assert [path.name for path in out.iterdir()] == [name]
    assert (out / name).read_text() == "precious"


def test_a_database_put_beside_ours_is_refused(raw):
    out = raw.parent / "out"
    convert_raw(raw, out)
    (out / "more.aselmdb").write_bytes(b"")
    with pytest.raises(ValueError, match=r"holds something else \(more.aselmdb\)"):
        convert_raw(raw, out)


def test_an_output_that_is_a_file_is_refused(raw):
    (raw.parent / "out").write_text("precious")
    with pytest.raises(ValueError, match="out is a file: choose another --out"):
        convert_raw(raw, raw.parent / "out")


def test_the_download_itself_as_output_is_refused(raw):
    with pytest.raises(ValueError, match="raw holds something else"):
        convert_raw(raw, raw)


def convert_with_little_room(raw, out, room, answers) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        convert_raw(raw, out)
        answers.put("no error")
    except OSError as error:
        answers.put(str(error))


def test_a_disk_without_room_is_told_and_the_conversion_continued(tmp_path):
    raw, out = download(tmp_path / "raw", 1, 40), tmp_path / "out"
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    process = context.Process(target=convert_with_little_room, args=(raw, out, 60_000, answers))
    process.start()
    process.join(60)
    message = answers.get()
    # LMDB's word for a write that stopped halfway.
    cause = "MB are free: mdb_txn_commit: Input/output error. Make room"
    assert message.startswith(f"cannot write to {out}/.conversion, where ")
    assert cause in message
    assert not list(out.rglob("*.aselmdb*"))
    assert convert_raw(raw, out).frames == 40


@pytest.mark.parametrize("place", ["shard", "folder"])
def test_no_room_for_the_last_small_files_is_told(raw, monkeypatch, place):
    def full(*arguments, **arrays):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(f"eqv2_plugin.data.conversion.{place}.save_npz", full)
    with pytest.raises(OSError, match=r"cannot write to .*out.*No space left.*continues"):
        convert_raw(raw, raw.parent / "out")
    assert not (raw.parent / "out" / "metadata.npz").exists()
    monkeypatch.undo()
    assert len(contents(raw.parent / "out")) in (0, 6)
    assert convert_raw(raw, raw.parent / "out").frames == 6


def die(*arguments) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_is_told(raw, monkeypatch):
    monkeypatch.setattr(worker_processes, "write_shard", die)
    with pytest.raises(RuntimeError, match=r"a worker process was killed.*fewer --workers"):
        convert_raw(raw, raw.parent / "out", workers=2)
    monkeypatch.undo()
    assert convert_raw(raw, raw.parent / "out").frames == 6


def test_an_error_ends_the_other_workers_soon(tmp_path, monkeypatch):
    raw = download(tmp_path / "raw", pairs=6, frames=2)
    edit(raw / "9.txt", "random", "sid")
    refused(raw, "9.txt, line 1", workers=2)
    assert len(list((tmp_path / "out" / ".conversion").glob("*.npz"))) < 6
    assert not list((tmp_path / "out").rglob("*.part*"))


def test_natoms_are_whole_numbers_even_for_one_frame(tmp_path):
    convert_raw(download(tmp_path / "raw", 1, 1), tmp_path / "out")
    with np.load(tmp_path / "out" / "metadata.npz") as file:
        assert (file["natoms"].dtype, file["natoms"].shape) == (np.int64, (1,))
