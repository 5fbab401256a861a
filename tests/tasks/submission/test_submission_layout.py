"""EvalAI files have fairchem-core 1's layout, and fairchem 2's script takes them as they are."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
from fairchem.core.scripts import make_submission_file
from helpers import no_file_beyond
from submission_inputs import WRITERS, predictions, read_independently, write_good, write_splits

from eqv2_plugin.common.files import read_npz, save_npz, save_text
from eqv2_plugin.data.ids import s2ef_id, split_frame, system_id, system_ids
from eqv2_plugin.tasks.submission.layout import write_is2re, write_is2rs, write_s2ef


def test_s2ef_by_hand(tmp_path):
    path = tmp_path / "made" / "id.npz"
    rows = np.arange(15.0).reshape(5, 3)
    write_s2ef(
        path,
        ids=["9_1", "10_2", "10_10"],
        energies=[-1.5, 2.25, 0.5],
        forces=[rows[:2], rows[2:3], rows[3:]],
        free=[np.array([False, True]), np.array([True]), np.array([True, True])],
        dtype=np.float16,
    )
    arrays = read_npz(path)
    assert sorted(arrays) == ["chunk_idx", "energy", "forces", "ids"]
    # Sorted as text: "10_10" < "10_2" < "9_1".
    assert arrays["ids"].tolist() == ["10_10", "10_2", "9_1"]
    assert arrays["ids"].dtype.kind == "U"
    assert arrays["energy"].tolist() == [0.5, 2.25, -1.5]
    expected = [[9, 10, 11], [12, 13, 14], [6, 7, 8], [3, 4, 5]]
    assert arrays["forces"].tolist() == expected
    assert arrays["chunk_idx"].tolist() == [2, 3]
    assert arrays["chunk_idx"].dtype == np.int64
    assert arrays["energy"].dtype == arrays["forces"].dtype == np.float16


def test_is2re_and_is2rs_by_hand(tmp_path):
    write_is2re(tmp_path / "e.npz", ["20", "3"], [1.0, -0.1])
    write_is2rs(tmp_path / "p.npz", ["20", "3"], [np.ones((1, 3)), np.zeros((2, 3))])
    energy, positions = read_npz(tmp_path / "e.npz"), read_npz(tmp_path / "p.npz")
    assert sorted(energy) == ["energy", "ids"]
    assert energy["ids"].tolist() == positions["ids"].tolist() == ["20", "3"]
    assert energy["energy"].tolist() == [1.0, -0.1]
    assert energy["energy"].dtype == positions["pos"].dtype == np.float64
    assert positions["pos"].tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]
    assert positions["chunk_idx"].tolist() == [1]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_an_independent_reader_finds_every_structure(tmp_path, dtype):
    made = predictions(3, count=30)
    write_s2ef(tmp_path / "id.npz", **made, dtype=dtype)
    found = read_independently(tmp_path / "id.npz")
    assert sorted(found) == sorted(made["ids"])
    for one, energy, forces, free in zip(*made.values(), strict=True):
        assert found[one][0] == energy.astype(dtype)
        np.testing.assert_array_equal(found[one][1], forces[free].astype(dtype))


@pytest.mark.parametrize(("dataset", "dtype"), [("OC20", np.float16), ("OC22", np.float32)])
def test_fairchem_joins_the_files_unchanged(tmp_path, dataset, dtype):
    files = write_splits(tmp_path, dataset, dtype)
    # Its own argument handling, its own name for the output.
    make_submission_file.main(
        argparse.Namespace(
            dataset=dataset,
            is2re_relaxations=False,
            hybrid=False,
            out_path=str(tmp_path / "joined"),
            **{split: str(path) for split, path in files.items()},
        )
    )
    joined = read_npz(tmp_path / "joined.npz")
    assert len(joined) == 4 * len(files)
    for split, path in files.items():
        for name, array in read_npz(path).items():
            np.testing.assert_array_equal(joined[f"{split}_{name}"], array)
            assert joined[f"{split}_{name}"].dtype == array.dtype


def test_fairchem_takes_relaxed_energies_from_the_files(tmp_path):
    files = write_splits(tmp_path, "OC20", np.float16)
    make_submission_file.main(
        argparse.Namespace(
            dataset="OC20",
            is2re_relaxations=True,
            hybrid=True,
            out_path=str(tmp_path / "joined.npz"),
            **{split: str(path) for split, path in files.items()},
        )
    )
    joined = read_npz(tmp_path / "joined.npz")
    for split, path in files.items():
        found = read_npz(path)
        assert joined[f"{split}_ids"].tolist() == [i.split("_")[0] for i in found["ids"].tolist()]
        np.testing.assert_array_equal(joined[f"{split}_energy"], found["energy"])


def change_first(made: dict, key: str, value: float) -> dict:
    changed = [np.array(v, float) for v in made[key]]
    changed[0] = np.full_like(changed[0], value)
    return {**made, key: changed}


@pytest.mark.parametrize("key", ["energies", "forces"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 7e4])
def test_numbers_that_the_type_cannot_hold_are_refused_with_their_ids(tmp_path, key, value):
    made = change_first(predictions(1), key, value)
    with pytest.raises(ValueError, match=rf"^1 structure.*float16: {made['ids'][0]}$"):
        write_s2ef(tmp_path / "id.npz", **made, dtype=np.float16)
    assert not list(tmp_path.iterdir())


def test_float32_holds_what_float16_does_not(tmp_path):
    made = change_first(predictions(1), "forces", 7e4)
    write_s2ef(tmp_path / "id.npz", **made, dtype=np.float32)
    assert read_npz(tmp_path / "id.npz")["forces"].max() == np.float32(7e4)


def test_fixed_atoms_may_have_any_force(tmp_path):
    made = predictions(1)
    for forces, free in zip(made["forces"], made["free"], strict=True):
        forces[~free] = np.nan
    write_s2ef(tmp_path / "id.npz", **made, dtype=np.float16)
    assert np.isfinite(read_npz(tmp_path / "id.npz")["forces"]).all()


@pytest.mark.parametrize("task", WRITERS)
def test_an_id_that_occurs_twice_is_refused(tmp_path, task):
    made, path = predictions(1), tmp_path / "id.npz"
    made["ids"][2] = made["ids"][0]
    with pytest.raises(ValueError, match=rf"more than once: {made['ids'][0]}$"):
        WRITERS[task](path, made)
    assert not path.exists()


def test_lengths_that_differ_are_refused(tmp_path):
    made = predictions(1)
    with pytest.raises(ValueError, match="3 ids, but energy has 4 entries"):
        write_is2re(tmp_path / "e.npz", made["ids"][:3], made["energies"])
    with pytest.raises(ValueError, match="there are no predictions"):
        write_is2re(tmp_path / "e.npz", [], [])
    made["free"][1] = made["free"][1][:1]
    second = made["ids"][1]
    with pytest.raises(ValueError, match=rf"{second}: forces of shape \(3, 3\) for 1 atoms"):
        write_s2ef(tmp_path / "e.npz", **made, dtype=np.float16)


def test_the_same_predictions_make_the_same_bytes(tmp_path):
    first, second = (write_good(tmp_path / name, "s2ef") for name in ("a.npz", "b.npz"))
    assert first.read_bytes() == second.read_bytes()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_good(tmp_path / "id.npz", "is2re")
    before = path.read_bytes()
    noise = {"noise": np.random.default_rng(0).random(100_000)}
    with no_file_beyond(50_000), pytest.raises(OSError, match=r"cannot write .*id\.npz"):
        save_npz(path, noise)
    with no_file_beyond(5), pytest.raises(OSError, match=r"cannot write .*id\.npz"):
        save_text(path, "more than five bytes")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_ids_are_those_of_the_leaderboards():
    assert system_id("random1234567") == system_id("1234567") == "1234567"
    assert system_id("randomly") == "randomly"
    assert system_id("my_slab") == "my_slab"  # only S2EF ids have a frame after "_"
    assert system_ids(["random12", "7"], "id") == ["12", "7"]
    with pytest.raises(ValueError, match="id: the sids 'random12' and '12' are both 12"):
        system_ids(["random12", "7", "12"], "id")
    assert s2ef_id("random12", "7") == "12_7"
    assert split_frame("random12-frame-7") == ("random12", "7")
    assert split_frame("random12") == ("random12", None)
    with pytest.raises(ValueError, match="'a_b' has '_'"):
        s2ef_id("a_b", "0")
