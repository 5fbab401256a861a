"""Opening data sets: frames as stored, whatever the form, and one clear error otherwise."""

from __future__ import annotations

import shutil
from pathlib import Path

import ase.db
import numpy as np
import pytest
from inspection_inputs import oc20_frames, write_dataset

from eqv2_plugin.data.inspection.frames import Frame, frame_of, open_dataset
from eqv2_plugin.data.inspection.scan import sampled_indices, scan
from eqv2_plugin.data.lmdb import lmdb_frames

LMDB = Path(__file__).parents[2] / "fixtures" / "data_oc"


def assert_same(ours: Frame, expected: Frame) -> None:
    assert (ours.sid, ours.fid) == (expected.sid, expected.fid)
    assert ours.energy == pytest.approx(expected.energy, abs=1e-12)
    for name in ("numbers", "positions", "cell", "pbc", "tags", "fixed", "forces"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(expected, name), name)


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_dataset(tmp_path / "data", oc20_frames(4))


def test_frames_of_a_folder_are_as_they_were_written(folder):
    dataset = open_dataset(folder)
    assert len(dataset) == 4
    assert dataset.natoms.tolist() == [len(atoms) for atoms in oc20_frames(4)]
    for index, atoms in enumerate(oc20_frames(4)):
        assert_same(dataset[index], frame_of(atoms))
        assert dataset[index].index == index


def test_one_file_is_a_data_set_too(folder):
    assert_same(open_dataset(folder / "sample.aselmdb")[2], frame_of(oc20_frames(4)[2]))


def test_other_ase_databases_are_read(tmp_path):
    with ase.db.connect(tmp_path / "frames.db") as database:
        for atoms in oc20_frames(2):
            database.write(atoms, data=atoms.info)
    assert_same(open_dataset(tmp_path / "frames.db")[1], frame_of(oc20_frames(2)[1]))


def test_tags_and_positions_are_not_corrected(tmp_path):
    atoms = oc20_frames(1)[0]
    atoms.set_tags(0)
    outside = atoms.positions + atoms.cell[0]
    atoms.set_positions(outside, apply_constraint=False)
    frame = open_dataset(write_dataset(tmp_path / "data", [atoms]))[0]
    assert not frame.tags.any()
    np.testing.assert_array_equal(frame.positions, outside)


def test_frames_without_sid_have_none_and_are_named_by_number(tmp_path):
    frames = oc20_frames(2)
    for atoms in frames:
        atoms.info = {}
    frame = open_dataset(write_dataset(tmp_path / "data", frames))[1]
    assert frame.sid is None
    assert frame.name == "number 1 of the data set"


def test_old_lmdb_files_are_read_as_stored():
    source = next(path for path in sorted(LMDB.iterdir()) if any(path.glob("*.lmdb")))
    dataset = open_dataset(source)
    expected = list(lmdb_frames(source))
    assert len(dataset) == len(expected)
    for index, atoms in enumerate(expected):
        frame = frame_of(atoms)
        np.testing.assert_array_equal(dataset[index].positions, frame.positions)
        np.testing.assert_array_equal(dataset[index].fixed, frame.fixed)
        assert dataset[index].scalars.keys() >= frame.scalars.keys() - {"sid", "fid"}
        assert (dataset[index].sid, dataset[index].fid) == (frame.sid, frame.fid)


def cut_off(folder: Path) -> None:
    data = (folder / "sample.aselmdb").read_bytes()
    (folder / "sample.aselmdb").write_bytes(data[:5000])


def empty(folder: Path) -> None:
    (folder / "sample.aselmdb").unlink()
    write_dataset(folder / "new", [])
    (folder / "new" / "sample.aselmdb").rename(folder / "sample.aselmdb")
    shutil.rmtree(folder / "new")


def text_file(folder: Path) -> None:
    (folder / "sample.aselmdb").write_text("energies")


WRONG = {
    "gone": (shutil.rmtree, FileNotFoundError, ".*data does not exist"),
    "no database": (lambda f: (f / "sample.aselmdb").unlink(), ValueError, "holds no database"),
    "cut off": (cut_off, ValueError, "sample.aselmdb is cut off"),
    "no database file": (text_file, ValueError, "cannot open .*sample.aselmdb"),
    "no frames": (empty, ValueError, "cannot read .*data"),
    "wrong metadata": (
        lambda f: np.savez(f / "metadata.npz", sizes=np.ones(4)),
        ValueError,
        "metadata.npz cannot be read .*natoms",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_data_set_is_refused(case, folder):
    spoil, kind, message = WRONG[case]
    spoil(folder)
    with pytest.raises(kind, match=message):
        open_dataset(folder)


def test_a_folder_of_data_sets_lists_them(folder):
    with pytest.raises(ValueError, match="give its folders one by one: data"):
        open_dataset(folder.parent)


@pytest.mark.parametrize("name", ["embedded:oc20_sample/test", "embedded:oc21/train", "embedded:"])
def test_an_unknown_sample_is_refused(name):
    with pytest.raises(FileNotFoundError, match=f"no {name}: unknown"):
        open_dataset(name)


class Numbers:
    """A data set whose frame 5 cannot be read."""

    name = "numbers"

    def __len__(self):
        return 70

    def __getitem__(self, index):
        if index == 5:
            raise ValueError("frame 5 is broken")
        return index


def same(value):
    return value


@pytest.mark.parametrize("workers", [0, 2])
def test_a_scan_keeps_the_order_and_passes_errors_on_unchanged(workers):
    indices = np.array([9, 8, 60, *range(6, 69)])
    assert list(scan(Numbers(), same, indices, workers)) == indices.tolist()
    with pytest.raises(ValueError, match=r"^frame 5 is broken$"):
        list(scan(Numbers(), same, workers=workers))


@pytest.mark.parametrize(("total", "wanted"), [(1000, 100), (1000, 5), (1000, 999), (40, 17)])
def test_a_sample_is_spread_over_the_data_in_runs(total, wanted):
    indices = sampled_indices(total, wanted)
    assert wanted / 2 <= len(indices) <= wanted
    assert (np.diff(indices) > 0).all()
    assert indices.min() >= 0
    assert indices.max() < total
    if wanted > 16:
        assert indices[0] == 0
        assert indices[-1] > 0.8 * total
        assert (np.diff(indices) == 1).mean() > 0.8


@pytest.mark.parametrize("wanted", [None, 7, 8])
def test_all_frames_are_taken_where_no_fewer_are_wanted(wanted):
    assert sampled_indices(7, wanted).tolist() == list(range(7))
