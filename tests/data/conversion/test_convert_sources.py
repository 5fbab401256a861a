"""`eqv2 data convert`: files of other kinds come through without loss, or are refused."""

import lzma
import os
from collections import Counter
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.io.trajectory import Trajectory
from ase_db_backends.aselmdb import LMDBDatabase
from downloads import contents, convert_raw, download, fixture, read_by_fairchem, sample

from eqv2_plugin.data.conversion.frame import frame_of_atoms
from eqv2_plugin.data.conversion.job import Summary, convert
from eqv2_plugin.data.conversion.sources import READERS, find_sources


def convert_files(paths: list[Path], out: Path, workers: int = 1) -> Summary:
    return convert(find_sources(paths), out, {}, workers)


def assert_same(ours: Atoms, theirs: Atoms) -> None:
    """Bit for bit: structure, labels (also of fixed atoms), tags and constraints."""
    for name in ("numbers", "positions"):
        np.testing.assert_array_equal(ours.arrays[name], theirs.arrays[name])
    np.testing.assert_array_equal(ours.cell.array, theirs.cell.array)
    np.testing.assert_array_equal(ours.pbc, theirs.pbc)
    np.testing.assert_array_equal(ours.get_tags(), theirs.get_tags())
    assert len(ours.constraints) == len(theirs.constraints)
    for a, b in zip(ours.constraints, theirs.constraints, strict=True):
        assert isinstance(a, FixAtoms)
        np.testing.assert_array_equal(a.index, b.index)
    for name in ("energy", "forces"):
        np.testing.assert_array_equal(ours.calc.results[name], theirs.calc.results[name])


def atoms_of(folder: Path) -> list[Atoms]:
    dataset = read_by_fairchem(folder).dataset
    return [dataset.get_atoms(i) for i in range(len(dataset))]


def write_trajectory(path: Path, frames) -> Path:
    with Trajectory(path, "w") as trajectory:
        for atoms in frames:
            trajectory.write(atoms)
    return path


def write_database(path: Path, frames, keys: bool = False) -> Path:
    with ase.db.connect(path, use_lock_file=False) as database:
        for atoms in frames:
            if keys:  # as key-value pairs instead of data
                database.write(atoms, sid=atoms.info["sid"], fid=atoms.info["fid"])
            else:
                database.write(atoms, data=atoms.info)
    return path


@pytest.mark.parametrize("kind", ["traj", "db", "db_keys", "aselmdb", "extxyz"])
def test_ids_and_values_of_every_kind_are_kept(tmp_path, kind):
    frames = sample(6)
    path = tmp_path / f"relaxations.{kind.split('_')[0]}"
    if kind == "traj":
        write_trajectory(path, frames)
        frames = tuple(Trajectory(path))
        assert frames[0].info["sid"] == sample(6)[0].info["sid"]
    elif kind == "extxyz":
        columns = ["symbols", "positions", "move_mask", "tags", "forces"]
        ase.io.write(path, frames, columns=columns)
        frames = tuple(ase.io.read(path, ":"))
    else:
        write_database(path, frames, keys=kind == "db_keys")
    summary = convert_files([path], tmp_path / "out")
    assert (summary.frames, summary.labels, summary.notes) == (6, ("energy", "forces"), {})
    for ours, theirs, original in zip(atoms_of(tmp_path / "out"), frames, sample(6), strict=True):
        assert_same(ours, theirs)
        assert ours.info["sid"] == original.info["sid"]
        assert ours.info["fid"] == original.info["fid"]


def test_a_packed_extxyz_file_gives_what_the_plain_one_gives(tmp_path):
    plain = tmp_path / "a.extxyz"
    ase.io.write(plain, sample(3))
    packed = tmp_path / "packed" / "a.extxyz.xz"
    packed.parent.mkdir()
    packed.write_bytes(lzma.compress(plain.read_bytes()))
    for path in (plain, packed):
        convert_files([path], tmp_path / f"out{path.suffix}")
    assert contents(tmp_path / "out.xz") == contents(tmp_path / "out.extxyz")


def test_our_own_folders_convert_to_themselves(tmp_path):
    convert_raw(download(tmp_path / "raw"), tmp_path / "one")
    convert_files([tmp_path / "one"], tmp_path / "two", workers=2)
    one, two = atoms_of(tmp_path / "one"), atoms_of(tmp_path / "two")
    assert len(one) == 12
    for a, b in zip(one, two, strict=True):
        assert_same(a, b)
        assert a.info == b.info


def test_files_come_in_the_order_given_and_folders_by_name(tmp_path):
    frames = sample(4)
    (tmp_path / "folder").mkdir()
    write_trajectory(tmp_path / "z.traj", frames[:1])
    write_trajectory(tmp_path / "folder" / "b.traj", frames[2:3])
    write_database(tmp_path / "folder" / "a.db", frames[1:2])
    (tmp_path / "folder" / "notes.md").write_text("not data")
    write_trajectory(tmp_path / "a.traj", frames[3:])
    paths = [tmp_path / "z.traj", tmp_path / "folder", tmp_path / "a.traj"]
    convert_files(paths, tmp_path / "out")
    assert [a.info["fid"] for a in atoms_of(tmp_path / "out")] == [a.info["fid"] for a in frames]


def plain_frame(**info) -> Atoms:
    atoms = Atoms("CO", positions=[[0.1, 0.2, 0.3], [0.4, 0.5, 1.6]], info=info)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.25, forces=[[0.5, 0, 0], [-0.5, 0, 0]])
    return atoms


def test_frames_without_sid_are_named_after_file_and_place(tmp_path):
    path = write_trajectory(tmp_path / "random77.traj", [plain_frame(), plain_frame()])
    summary = convert_files([path], tmp_path / "out")
    dataset = read_by_fairchem(tmp_path / "out")
    assert [dataset[i].sid[0] for i in range(2)] == ["random77-frame-0", "random77-frame-1"]
    assert list(summary.notes.values()) == [2]
    assert "no sid" in next(iter(summary.notes))


def test_a_sid_alone_stays_alone_and_becomes_a_string(tmp_path):
    path = write_trajectory(tmp_path / "a.traj", [plain_frame(sid=5), plain_frame(sid="x")])
    summary = convert_files([path], tmp_path / "out")
    dataset = read_by_fairchem(tmp_path / "out")
    assert [dataset[i].sid for i in range(2)] == [["5"], ["x"]]
    assert summary.notes == {}


def test_a_fid_that_is_no_integer_is_refused(tmp_path):
    path = write_trajectory(tmp_path / "a.traj", [plain_frame(sid="x", fid=1.5)])
    with pytest.raises(ValueError, match=r"a\.traj, frame 0: its fid 1\.5 is not an integer"):
        convert_files([path], tmp_path / "out")


def test_other_info_and_results_are_kept(tmp_path):
    atoms = plain_frame(sid="x", y_relaxed=-3.5, pos_relaxed=np.arange(6.0).reshape(2, 3))
    atoms.set_initial_charges([0.5, -0.5])
    results = {**atoms.calc.results, "stress": np.arange(6.0)}
    atoms.calc = SinglePointCalculator(atoms, **results)
    convert_files([write_trajectory(tmp_path / "a.traj", [atoms])], tmp_path / "out")
    (ours,) = atoms_of(tmp_path / "out")
    assert ours.info["y_relaxed"] == -3.5
    np.testing.assert_array_equal(ours.info["pos_relaxed"], atoms.info["pos_relaxed"])
    np.testing.assert_array_equal(ours.calc.results["stress"], np.arange(6.0))
    np.testing.assert_array_equal(ours.get_initial_charges(), [0.5, -0.5])


@pytest.mark.parametrize("kind", [".db", ".aselmdb", ".traj"])
def test_another_energy_beside_the_calculators_is_refused_by_name(tmp_path, kind):
    frames = sample(3)
    frames[-1].info["energy"] = -0.45
    write = write_trajectory if kind == ".traj" else write_database
    path = write(tmp_path / f"a{kind}", frames)
    with pytest.raises(ValueError, match=rf"a\{kind}, frame 2: .* 'energy' \(-0\.45\) beside"):
        convert_files([path], tmp_path / "out")


def test_what_looks_like_a_label_is_kept_and_named(tmp_path):
    path = write_trajectory(tmp_path / "a.traj", [plain_frame(sid="x", REF_energy=-1.0)])
    (note,) = convert_files([path], tmp_path / "out").notes
    assert "'REF_energy', which looks like a label and is not read" in note
    assert atoms_of(tmp_path / "out")[0].info["REF_energy"] == -1.0


def test_what_cannot_be_kept_is_counted(tmp_path):
    frames = [plain_frame(sid=f"s{i}") for i in range(3)]
    for atoms in frames:
        atoms.set_array("spin_axis", np.ones((2, 3)))
    path = tmp_path / "a.extxyz"
    ase.io.write(path, frames)
    summary = convert_files([path], tmp_path / "out")
    assert summary.notes == {"frames had the per-atom array 'spin_axis', which is left out": 3}


def test_labels_are_kept_even_if_the_atoms_were_changed_since():
    atoms = plain_frame(sid="x")
    atoms.pbc = True  # ASE's own writers now leave the results out
    frame = frame_of_atoms(atoms, "a", 0, "a.traj, frame 0", Counter())
    assert frame.labels == ("energy", "forces")


def test_info_and_results_that_no_database_takes_are_counted():
    atoms = plain_frame(sid="x", reader=object(), table=np.array([None]), shift=np.float32(0.5))
    atoms.calc.results["unheard_of"] = 1.0
    notes: Counter[str] = Counter()
    frame = frame_of_atoms(atoms, "a", 0, "a.traj, frame 0", notes)
    assert frame.info == {"sid": "x", "shift": 0.5}
    assert sorted(notes) == [
        "frames had info 'reader', which cannot be stored and is left out",
        "frames had info 'table', which cannot be stored and is left out",
        "frames had the result 'unheard_of', which is left out",
    ]


def test_data_without_any_label_converts(tmp_path):
    atoms = plain_frame(sid="x")
    atoms.calc = None
    summary = convert_files([write_trajectory(tmp_path / "a.traj", [atoms])], tmp_path / "out")
    assert summary.labels == ()


def unlabelled(sid: str) -> Atoms:
    atoms = plain_frame(sid=sid)
    atoms.calc = None
    return atoms


def test_frames_with_and_without_labels_in_one_file_are_refused(tmp_path):
    path = write_trajectory(tmp_path / "a.traj", [plain_frame(sid="x"), unlabelled("y")])
    with pytest.raises(ValueError, match=r"a\.traj, frame 1: its labels are none, but .*frame 0"):
        convert_files([path], tmp_path / "out")


def test_files_with_and_without_labels_are_refused(tmp_path):
    a = write_trajectory(tmp_path / "a.traj", [plain_frame(sid="x")])
    b = write_trajectory(tmp_path / "b.traj", [unlabelled("y")])
    with pytest.raises(ValueError, match=r"b\.traj: its labels are none, but .*a\.traj are energy"):
        convert_files([a, b], tmp_path / "out")
    assert not (tmp_path / "out" / "metadata.npz").exists()


def test_the_same_ids_in_two_files_are_refused(tmp_path):
    a = write_trajectory(tmp_path / "a.traj", [plain_frame(sid="x")])
    b = write_trajectory(tmp_path / "b.traj", [plain_frame(sid="y"), plain_frame(sid="x")])
    with pytest.raises(ValueError, match=r"the id x: .*a\.traj, frame 0, and .*b\.traj, frame 1\."):
        convert_files([a, b], tmp_path / "out")


@pytest.mark.parametrize("suffix", sorted(READERS))
def test_a_damaged_file_of_every_kind_is_refused_by_name(tmp_path, suffix):
    path = tmp_path / (f"a{suffix}" if suffix.startswith(".") else suffix)
    path.write_bytes(b"2\nthis is no data\n" * 3)
    with pytest.raises(ValueError, match=rf"{path.name}, frame 0 cannot be read: "):
        convert_files([path], tmp_path / "out")


def test_an_extxyz_file_cut_short_is_refused(tmp_path):
    path = tmp_path / "a.extxyz"
    ase.io.write(path, sample(2))
    text = path.read_bytes()
    for end in (len(text) - 3, len(text) * 3 // 4):
        path.write_bytes(text[:end])
        with pytest.raises(ValueError, match=r"a\.extxyz, frame 1 cannot be read: .*cut short"):
            convert_files([path], tmp_path / f"out{end}")


def test_a_trajectory_cut_short_is_refused(tmp_path):
    path = write_trajectory(tmp_path / "a.traj", sample(3))
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ValueError, match=r"a\.traj, frame \d cannot be read"):
        convert_files([path], tmp_path / "out")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.extxyz").write_text("")
    with pytest.raises(ValueError, match=r"a\.extxyz holds no frame"):
        convert_files([tmp_path / "a.extxyz"], tmp_path / "out")


def test_a_frame_without_atoms_is_refused(tmp_path):
    path = write_trajectory(tmp_path / "a.traj", [Atoms(info={"sid": "x"})])
    with pytest.raises(ValueError, match=r"a\.traj, frame 0: there are no atoms in it"):
        convert_files([path], tmp_path / "out")


def test_files_of_an_oc20_download_are_refused(tmp_path):
    raw = download(tmp_path / "raw")
    with pytest.raises(ValueError, match=r"10\.extxyz has its ids .* use eqv2 data oc20"):
        find_sources([raw])


def test_what_is_not_there_or_not_known_is_refused(tmp_path):
    (tmp_path / "a.cif").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"b\.traj does not exist"):
        find_sources([tmp_path / "b.traj"])
    with pytest.raises(ValueError, match=r"a\.cif is of no known kind; known are \.extxyz"):
        find_sources([tmp_path / "a.cif"])
    with pytest.raises(FileNotFoundError, match=r"no file of a known kind \(\.extxyz.* in .*empty"):
        find_sources([tmp_path / "empty"])


def test_a_file_given_twice_is_refused(tmp_path):
    path = write_trajectory(tmp_path / "a.traj", sample(1))
    with pytest.raises(ValueError, match=r"a\.traj is given 2 times"):
        find_sources([path, tmp_path])


def test_reading_an_aselmdb_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.aselmdb"
    with LMDBDatabase(path, use_lock_file=False) as database:
        database.write(plain_frame(), data={"sid": "x"})
    before = {p.name for p in path.parent.iterdir()}
    convert_files([path], tmp_path / "out")
    assert {p.name for p in path.parent.iterdir()} == before


@pytest.mark.parametrize("name", ["s2ef_lmdb_folder_ref", "s2ef_legacy_keys"])
def test_lmdbs_of_fairchem_1_come_through_as_its_reader_gave_them(tmp_path, name):
    summary = convert_files([fixture(name)], tmp_path / "out")
    expected = np.load(fixture(f"expected_{name}.npz"))
    dataset = read_by_fairchem(tmp_path / "out")
    assert summary.labels == ("energy", "forces")
    assert len(dataset) == summary.frames == len({key.split("/")[0] for key in expected})
    for i in range(len(dataset)):
        data, atoms = dataset[i], dataset.dataset.get_atoms(i)
        for key in ("cell", "forces", "tags", "fixed", "atomic_numbers"):
            np.testing.assert_array_equal(data[key].numpy(), expected[f"{i}/{key}"], key)
        # fairchem's reader wraps positions into the cell, the database has them as they were.
        np.testing.assert_array_equal(np.float32(atoms.positions), expected[f"{i}/pos"])
        energy = atoms.get_potential_energy()
        assert energy == pytest.approx(float(expected[f"{i}/energy"]), abs=1e-9)
        sid, frame = data.sid[0].split("-frame-")
        assert int(sid.removeprefix("random")) == expected[f"{i}/sid"]
        assert int(frame) == expected[f"{i}/fid"]


def npz_frames(name: str) -> list[Atoms]:
    """The frames of ``<name>/public.npz`` below $EQV2_DATA."""
    with np.load(Path(os.environ["EQV2_DATA"]) / name / "public.npz") as file:
        data = {key: file[key] for key in file.files}
    ends = np.cumsum(data["natoms"])
    frames = []
    for i, end in enumerate(ends.tolist()):
        rows = slice(end - data["natoms"][i], end)
        atoms = Atoms(
            data["numbers"][rows],
            data["pos"][rows].astype(float),
            cell=data["cell"][i],
            pbc=data["pbc"][i],
            tags=data["tags"][rows],
            constraint=FixAtoms(mask=data["fixed"][rows].astype(bool)),
            info={"sid": str(data["sid"][i]), "fid": int(data["fid"][i])},
        )
        atoms.calc = SinglePointCalculator(
            atoms, energy=float(data["energy"][i]), forces=data["forces"][rows].astype(float)
        )
        frames.append(atoms)
    return frames


@pytest.mark.skipif("EQV2_DATA" not in os.environ, reason="EQV2_DATA names no folder of real data")
@pytest.mark.parametrize("name", ["oc22_samples", "oc20_relax"])
def test_real_data_come_through_bit_for_bit(tmp_path, name):
    frames = npz_frames(name)
    write_trajectory(tmp_path / "a.traj", frames)
    assert convert_files([tmp_path / "a.traj"], tmp_path / "out").frames == len(frames)
    for ours, theirs in zip(atoms_of(tmp_path / "out"), frames, strict=True):
        theirs.set_constraint(theirs.constraints if theirs.constraints[0].index.size else None)
        if not theirs.constraints:
            ours.set_constraint()
        assert_same(ours, theirs)
        assert ours.info == theirs.info
