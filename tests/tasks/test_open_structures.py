"""Any data set that fairchem reads is a sequence of ASE atoms with ids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.db import connect

from eqv2_plugin.data.sample import load_sample, write_ase_db
from eqv2_plugin.data.structures import open_structures

LMDB = Path(__file__).parents[1] / "fixtures" / "data_oc"


def frame(sid: object, fid: object = None, **info: object) -> Atoms:
    atoms = molecule("CH3OH", vacuum=4.0, pbc=True, tags=[2] * 6)
    atoms.set_constraint(FixAtoms([1]))
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((6, 3)))
    atoms.info = {k: v for k, v in {"sid": sid, "fid": fid, **info}.items() if v is not None}
    return atoms


def database(folder: Path, *frames: Atoms) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    write_ase_db(list(frames), folder)
    return {"format": "ase_db", "src": str(folder)}


def test_the_embedded_sample_is_read_in_its_order(tmp_path, monkeypatch):
    monkeypatch.setenv("EQV2_CACHE", str(tmp_path))
    found = open_structures({"format": "ase_db", "src": "embedded:oc20_sample/val_ood"})
    expected = load_sample("oc20_sample", "val_ood")
    assert len(found) == len(expected)
    for i in (0, 40, 89, -1):
        assert found[i].info["sid"] == expected[i].info["sid"]
        assert found[i].info["fid"] == str(expected[i].info["fid"])
        np.testing.assert_array_equal(found[i].positions, expected[i].positions)
        np.testing.assert_array_equal(found[i].get_tags(), expected[i].get_tags())
        fixed = [a.constraints[0].index for a in (found[i], expected[i])]
        np.testing.assert_array_equal(*fixed)
    assert [found.natoms(i) for i in range(90)] == [len(a) for a in expected]
    assert [len(a) for a in found[3:5]] == [len(a) for a in expected[3:5]]
    with pytest.raises(IndexError, match="has 90 structures"):
        found[90]


def test_relaxations_in_lmdb_files_have_their_targets():
    found = open_structures({"format": "lmdb", "src": str(LMDB / "is2re_folder")})
    atoms = found[0]
    assert atoms.info["sid"].isdigit()
    assert "fid" not in atoms.info
    assert isinstance(atoms.info["y_relaxed"], float)
    assert atoms.arrays["pos_relaxed"].shape == (len(atoms), 3)
    assert found.natoms(0) == len(atoms)
    assert len(found.ids()) == len(found) > 0


def test_frames_in_lmdb_files_have_sid_and_fid():
    for form, folder in (("lmdb", "s2ef_lmdb_test"), ("oc22_lmdb", "oc22_s2ef")):
        found = open_structures({"format": form, "src": str(LMDB / folder)})
        sid, fid = found.ids()[0]
        assert sid.isdigit()
        assert fid.isdigit()
        assert len(set(found.ids())) == len(found)


def test_a_frame_in_the_sid_is_split_off(tmp_path):
    config = database(tmp_path / "d", frame("random7-frame-3"), frame("random7", 4), frame("8"))
    assert open_structures(config).ids() == [("random7", "3"), ("random7", "4"), ("8", None)]


def test_sizes_need_no_metadata(tmp_path):
    config = database(tmp_path / "d", frame("1"), frame("2"))
    (tmp_path / "d" / "metadata.npz").unlink()
    found = open_structures(config)
    assert [found.natoms(0), found.natoms(1)] == [6, 6]


def test_files_of_ase_are_read(tmp_path):
    (tmp_path / "poscars").mkdir()
    atoms = frame("1")
    atoms.write(tmp_path / "poscars" / "one.vasp")
    found = open_structures({"format": "ase_read", "src": str(tmp_path / "poscars")})
    assert sorted(found[0].numbers) == sorted(atoms.numbers)
    assert found[0].info["sid"].endswith("one.vasp")


def test_the_order_is_that_of_the_data_and_first_n_its_start(tmp_path):
    config = database(tmp_path / "d", *[frame(str(i)) for i in range(20)])
    assert [sid for sid, _ in open_structures(config).ids()] == [str(i) for i in range(20)]
    few = open_structures(config | {"first_n": 3})
    assert [sid for sid, _ in few.ids()] == ["0", "1", "2"]


def test_ids_that_are_missing_or_occur_twice_are_refused(tmp_path):
    config = database(tmp_path / "a", frame("1"), frame(None))
    with pytest.raises(ValueError, match="val: structure 1 has no sid"):
        open_structures(config, "val").ids()
    config = database(tmp_path / "b", frame("1", 4), frame("2", 4), frame("1", 4))
    with pytest.raises(ValueError, match=r"val holds 1 id\(s\) more than once: 1 frame 4"):
        open_structures(config, "val").ids()


def cut_off(config: dict) -> None:
    path = next(Path(config["src"]).glob("*.aselmdb"))
    path.write_bytes(path.read_bytes()[:3000])


def test_what_cannot_be_read_is_refused(tmp_path):
    config = database(tmp_path / "d", frame("1"))
    with pytest.raises(ValueError, match="val: the data set config gives no format"):
        open_structures({"src": config["src"]}, "val")
    with pytest.raises(FileNotFoundError, match=r"val: .*none does not exist"):
        open_structures(config | {"src": str(tmp_path / "none")}, "val")
    with pytest.raises(FileNotFoundError, match="no embedded:oc20_sample/test"):
        open_structures(config | {"src": "embedded:oc20_sample/test"}, "val")
    with pytest.raises(ValueError, match=r"val: cannot read .* as lmdb"):
        open_structures({"format": "lmdb", "src": config["src"]}, "val")
    with pytest.raises(ValueError, match=r"val: cannot read .* as nonsense"):
        open_structures(config | {"format": "nonsense"}, "val")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="val: cannot read"):
        open_structures(config | {"src": str(tmp_path / "empty")}, "val")
    cut_off(config)
    with pytest.raises(ValueError, match=r"sample\.aselmdb"):
        open_structures(config, "val")


def test_a_database_that_cannot_be_opened_is_not_left_out(tmp_path):
    config = database(tmp_path / "d", frame("1"))
    (tmp_path / "d" / "metadata.npz").unlink()
    whole = tmp_path / "d" / "sample.aselmdb"
    with connect(tmp_path / "e.aselmdb", type="aselmdb") as second:
        second.write(frame("2"), data={"sid": "2"})
    (tmp_path / "d" / "zwei.aselmdb").write_bytes((tmp_path / "e.aselmdb").read_bytes())
    assert len(open_structures(config)) == 2
    whole.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"sample\.aselmdb"):
        open_structures(config)


def test_a_structure_can_be_predicted_twice_whatever_its_data(tmp_path):
    """A calculator compares info, which fails where it holds arrays."""
    atoms = frame("random7", 4)
    atoms.info |= {"pos_relaxed": atoms.positions + 0.1, "bader": np.arange(3.0)}
    found = open_structures(database(tmp_path / "d", atoms))[0]
    np.testing.assert_array_equal(found.arrays["pos_relaxed"], atoms.info["pos_relaxed"])
    assert found.info["bader"] == [0.0, 1.0, 2.0]
    assert found.info == found.copy().info


def test_relaxed_positions_of_other_atoms_are_named(tmp_path):
    atoms = frame("random7", 4)
    atoms.info["pos_relaxed"] = np.zeros((1, 3))
    found = open_structures(database(tmp_path / "d", atoms))
    with pytest.raises(ValueError, match=r"structure 0 \(random7\): pos_relaxed has 3 numbers"):
        found[0]
