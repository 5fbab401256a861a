"""`eqv2 data oc20` on sound downloads: what fairchem reads equals what was downloaded."""

import lzma

import ase.io
import numpy as np
import pytest
from ase.geometry import wrap_positions
from downloads import (
    contents,
    convert_raw,
    download,
    fixture,
    read_by_fairchem,
    sample,
    write_pair,
)

from eqv2_plugin.data.conversion.job import plan_shards
from eqv2_plugin.data.conversion.raw_oc20 import LABELS_LEFT_OUT, find_pairs


@pytest.mark.parametrize("form", ["s2ef_raw", "s2ef_raw_xz"])
@pytest.mark.parametrize("energy", ["referenced", "total"])
def test_the_reference_download_comes_through_as_it_was(tmp_path, form, energy):
    summary = convert_raw(fixture(form), tmp_path / "out", energy)
    expected = np.load(fixture("expected_raw_frames.npz"))
    dataset = read_by_fairchem(tmp_path / "out").dataset
    assert summary.frames == len(dataset) == 15
    assert summary.labels == ("energy", "forces")
    for i in range(15):
        frame = {key: expected[f"{i}/{key}"] for key in ("pos", "cell", "forces", "sid", "fid")}
        atoms = dataset.get_atoms(i)
        reference = expected[f"{i}/ref"] if energy == "referenced" else 0.0
        # The npz holds what the text files, with their eight decimals, were written from.
        assert atoms.get_potential_energy() == pytest.approx(
            expected[f"{i}/energy_total"] - reference, abs=1e-9
        )
        np.testing.assert_allclose(atoms.positions, frame["pos"], rtol=0, atol=5.1e-9)
        np.testing.assert_allclose(
            atoms.get_forces(apply_constraint=False), frame["forces"], rtol=0, atol=5.1e-9
        )
        np.testing.assert_array_equal(atoms.cell.array, frame["cell"])
        np.testing.assert_array_equal(atoms.numbers, expected[f"{i}/numbers"])
        np.testing.assert_array_equal(atoms.get_tags(), expected[f"{i}/tags"])
        np.testing.assert_array_equal(
            np.flatnonzero(expected[f"{i}/fixed"]), atoms.constraints[0].index
        )
        assert dataset[i].sid == [f"random{frame['sid']}-frame-{frame['fid']}"]
        assert ("ref_energy" in atoms.info) == (energy == "referenced")


def test_fairchem_gets_what_fairchem_1_made_of_the_download(tmp_path):
    convert_raw(fixture("s2ef_raw"), tmp_path / "out")
    dataset = read_by_fairchem(tmp_path / "out")
    ours = {dataset[i].sid[0]: dataset[i] for i in range(len(dataset))}
    theirs = np.load(fixture("expected_s2ef_lmdb_folder_ref.npz"))
    indices = {key.split("/")[0] for key in theirs}
    assert len(indices) >= 5  # the repository's copy has five of the fifteen frames
    for i in indices:
        data = ours[f"random{theirs[f'{i}/sid']}-frame-{theirs[f'{i}/fid']}"]
        for name in ("pos", "cell", "forces", "tags", "fixed", "atomic_numbers"):
            np.testing.assert_array_equal(data[name].numpy(), theirs[f"{i}/{name}"], name)
        assert data.energy.item() == np.float32(theirs[f"{i}/energy"])


@pytest.mark.parametrize("packed", [False, True])
def test_the_embedded_sample_comes_through_bit_for_bit(tmp_path, packed):
    frames = sample(12)
    write_pair(tmp_path / "raw", "0", frames, packed)
    convert_raw(tmp_path / "raw", tmp_path / "out")
    written = frames_in_text(tmp_path, frames)
    dataset = read_by_fairchem(tmp_path / "out")
    for i, (atoms, original) in enumerate(zip(written, frames, strict=True)):
        data = dataset[i]
        wrapped = wrap_positions(atoms.positions, atoms.cell, atoms.pbc, eps=0)
        reference = original.info["ref_energy"]
        np.testing.assert_array_equal(data.pos, np.float32(wrapped))
        np.testing.assert_array_equal(data.forces, np.float32(atoms.calc.results["forces"]))
        np.testing.assert_array_equal(data.cell[0], np.float32(atoms.cell.array))
        energy = dataset.dataset.get_atoms(i).get_potential_energy()
        assert energy == atoms.calc.results["energy"] - reference
        assert data.energy.item() == np.float32(energy)


def frames_in_text(folder, frames):
    """The frames as the text file holds them, read by ASE."""
    path = folder / "as_text.extxyz"
    write_pair(folder, "as_text", frames)
    return ase.io.read(path, ":")


def test_frames_and_metadata_come_in_the_order_of_the_file_numbers(tmp_path):
    raw = download(tmp_path / "raw", pairs=3, frames=4)  # 9, 10, 11: 10 < 9 as text
    convert_raw(raw, tmp_path / "out")
    dataset = read_by_fairchem(tmp_path / "out")
    expected = [f"{a.info['sid']}-frame-{a.info['fid']}" for a in sample(12)]
    assert [dataset[i].sid[0] for i in range(12)] == expected
    with np.load(tmp_path / "out" / "metadata.npz") as metadata:
        natoms = metadata["natoms"]
    assert natoms.dtype == np.int64
    assert natoms.tolist() == [len(atoms) for atoms in sample(12)]
    assert natoms.tolist() == [dataset[i].natoms.item() for i in range(12)]


def test_packed_and_plain_downloads_give_the_same(tmp_path):
    for packed in (False, True):
        write_pair(tmp_path / f"raw{packed}", "0", sample(4), packed)
        convert_raw(tmp_path / f"raw{packed}", tmp_path / f"out{packed}")
    assert contents(tmp_path / "outTrue") == contents(tmp_path / "outFalse")


def test_the_number_of_workers_does_not_change_the_outcome(tmp_path):
    raw = download(tmp_path / "raw", pairs=5, frames=2)
    for workers in (1, 2, 4):
        convert_raw(raw, tmp_path / str(workers), workers=workers)
    one = contents(tmp_path / "1")
    assert len(one) == 10
    assert contents(tmp_path / "2") == one
    assert contents(tmp_path / "4") == one


def test_the_unpacked_rows_are_those_that_ase_would_write(tmp_path):
    from ase_db_backends.aselmdb import LMDBDatabase

    raw = download(tmp_path / "raw", pairs=1, frames=3)
    convert_raw(raw, tmp_path / "out", "total")
    (tmp_path / "ase").mkdir()
    with LMDBDatabase(tmp_path / "ase" / "data.0000.aselmdb", use_lock_file=False) as database:
        for atoms, original in zip(ase.io.read(raw / "9.extxyz", ":"), sample(3), strict=True):
            info = {"sid": original.info["sid"], "fid": original.info["fid"]}
            database.write(atoms, data=info)
    for (_, ours), (_, theirs) in zip(
        contents(tmp_path / "out"), contents(tmp_path / "ase"), strict=True
    ):
        # The calculator's name and the user's are ASE's; ids of rows are random there.
        for key in ("unique_id", "user", "calculator", "calculator_parameters"):
            ours.pop(key, None), theirs.pop(key, None)
        assert ours == theirs


def without_labels(folder):
    """Turn a download into one of a test split."""
    for path in folder.glob("*.txt"):
        lines = path.read_text().splitlines()
        path.write_text("".join(line.rsplit(",", 1)[0] + "\n" for line in lines))
    for path in folder.glob("*.extxyz"):
        frames = ase.io.read(path, ":")
        for atoms in frames:
            atoms.calc = None
        ase.io.write(path, frames, columns=["symbols", "positions", "move_mask", "tags"])
    return folder


def test_test_data_has_no_labels(tmp_path):
    raw = without_labels(download(tmp_path / "raw", pairs=2, frames=2))
    assert "forces" not in (raw / "9.extxyz").read_text()
    summary = convert_raw(raw, tmp_path / "out", "none")
    assert (summary.frames, summary.labels, summary.notes) == (4, (), {})
    dataset = read_by_fairchem(tmp_path / "out")
    assert dataset[1].sid == [f"{sample(4)[1].info['sid']}-frame-{sample(4)[1].info['fid']}"]
    assert "energy" not in dataset[0].keys()  # noqa: SIM118 (no mapping)
    assert "forces" not in dataset[0].keys()  # noqa: SIM118


def test_labels_of_test_data_are_left_out_and_counted(tmp_path):
    raw = download(tmp_path / "raw", pairs=2, frames=2)
    summary = convert_raw(raw, tmp_path / "out", "none")
    assert summary.labels == ()
    assert summary.notes == {LABELS_LEFT_OUT: 4}


def test_a_readme_beside_the_pairs_is_passed_over(tmp_path):
    raw = download(tmp_path / "raw")
    (raw / "README.txt").write_text("OC20")
    (raw / "LICENSE").write_text("CC BY 4.0")
    assert len(find_pairs(raw, "total")) == 3


def test_text_files_may_lack_the_last_newline(tmp_path):
    raw = download(tmp_path / "raw", pairs=1)
    (raw / "9.txt").write_text((raw / "9.txt").read_text().rstrip("\n"))
    assert convert_raw(raw, tmp_path / "out").frames == 4


def test_a_frame_without_fixed_atoms_has_no_constraint(tmp_path):
    atoms = sample(1)[0].copy()
    atoms.calc, atoms.info = sample(1)[0].calc, sample(1)[0].info
    write_pair(tmp_path / "raw", "0", (atoms,))
    path = tmp_path / "raw" / "0.extxyz"
    path.write_text(path.read_text().replace(" F ", " T "))
    convert_raw(tmp_path / "raw", tmp_path / "out")
    assert read_by_fairchem(tmp_path / "out")[0].fixed.sum() == 0


def test_many_pairs_share_few_shards_in_their_order():
    sources = list(range(26_801))
    shards = plan_shards(sources)
    assert len(shards) == 400
    assert [s for shard in shards for s in shard.sources] == sources
    assert {len(shard.sources) for shard in shards} == {67, 68}
    assert sorted(shard.database for shard in shards) == [shard.database for shard in shards]


def test_a_download_of_several_files_a_shard_keeps_its_order(tmp_path, monkeypatch):
    monkeypatch.setattr("eqv2_plugin.data.conversion.job._MAX_SHARDS", 2)
    raw = download(tmp_path / "raw", pairs=5, frames=2)
    summary = convert_raw(raw, tmp_path / "out")
    assert summary.shards == 2
    dataset = read_by_fairchem(tmp_path / "out").dataset
    assert [dataset.get_atoms(i).info["fid"] for i in range(10)] == [
        atoms.info["fid"] for atoms in sample(10)
    ]


def test_more_frames_than_one_transaction_takes_all_come_through(tmp_path, monkeypatch):
    monkeypatch.setattr("eqv2_plugin.data.conversion.shard._BATCH", 3)
    raw = download(tmp_path / "raw", pairs=1, frames=8)
    assert convert_raw(raw, tmp_path / "out").frames == 8
    monkeypatch.undo()
    convert_raw(raw, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_xz_files_of_several_streams_are_read_to_the_end(tmp_path):
    write_pair(tmp_path / "raw", "0", sample(2))
    path = tmp_path / "raw" / "0.extxyz"
    text = path.read_bytes()
    packed = lzma.compress(text[:1000]) + lzma.compress(text[1000:])
    path.with_name("0.extxyz.xz").write_bytes(packed)
    path.unlink()
    assert convert_raw(tmp_path / "raw", tmp_path / "out").frames == 2
