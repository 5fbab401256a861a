"""Records of every vintage, and what a wrong one is told."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from lmdb_inputs import attributes, pyg1, pyg2

from eqv2_plugin.data.lmdb.records import read_record

LEGACY = attributes()
MODERN = {
    **{k: v for k, v in LEGACY.items() if k not in ("y", "force")},
    "energy": np.float64(LEGACY["y"]),
    "forces": LEGACY["force"],
    "atomic_numbers": LEGACY["atomic_numbers"].to(torch.uint8),
    "fixed": LEGACY["fixed"].int(),
    "natoms": torch.tensor([3]),
    "sid": torch.tensor([100]),
    "fid": torch.tensor(0),
}
NUMPY = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in LEGACY.items()}
WITH_NONES = {"x": None, "edge_index": None, "edge_attr": None, "normal": None, **LEGACY}


@pytest.mark.parametrize("make", [pyg1, pyg2])
@pytest.mark.parametrize("stored", [LEGACY, MODERN, NUMPY, WITH_NONES])
def test_all_vintages_give_the_same_record(stored, make):
    record, wanted = read_record(make(stored)), read_record(pyg1(LEGACY))
    for name in ("positions", "numbers", "cell", "pbc", "tags", "fixed"):
        found, array = getattr(record, name), getattr(wanted, name)
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype
    assert (record.sid, record.fid) == (wanted.sid, wanted.fid) == ("100", 0)
    assert record.energies == wanted.energies == {"energy": LEGACY["y"]}
    np.testing.assert_array_equal(record.vectors["forces"], LEGACY["force"].numpy())
    assert record.vectors.keys() == wanted.vectors.keys() == {"forces"}
    assert record.counts == wanted.counts == {}


def test_what_a_record_lacks_has_its_usual_meaning():
    bare = attributes(tags=None, fixed=None, sid=None, fid=None, y=None, force=None, natoms=None)
    record = read_record(pyg1(bare))
    assert record.tags.tolist() == record.fixed.tolist() == [0, 0, 0]
    assert record.pbc.tolist() == [True, True, True]
    assert record.sid is record.fid is None
    assert record.energies == record.vectors == {}


def test_open_boundaries_are_kept():
    record = read_record(pyg1(attributes(pbc=torch.tensor([True, True, False]))))
    assert record.pbc.tolist() == [True, True, False]


def test_a_nan_energy_is_kept():
    assert np.isnan(read_record(pyg2(attributes(y=float("nan")))).energies["energy"])


def test_stored_edges_are_dropped():
    edges = {"edge_index": torch.zeros(2, 7, dtype=torch.long), "distances": torch.ones(7)}
    record = read_record(pyg2(attributes(**edges)))
    assert [*record.energies, *record.vectors, *record.counts] == ["energy", "forces"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pos": None}, "no 'pos'"),
        ({"cell": None}, "no 'cell'"),
        ({"atomic_numbers": None}, "no 'atomic_numbers'"),
        ({"pos": torch.zeros(2, 3)}, r"'pos' has shape \(2, 3\), not \(3, 3\)"),
        ({"atomic_numbers": torch.zeros(3, 1)}, "'atomic_numbers' has shape"),
        ({"atomic_numbers": torch.zeros(0), "pos": torch.zeros(0, 3)}, "no atoms"),
        ({"cell": torch.zeros(3)}, "'cell' has shape"),
        ({"force": torch.zeros(3)}, "'forces' has shape"),
        ({"tags": torch.zeros(4)}, "'tags' has shape"),
        ({"natoms": 4}, "natoms=4 for 3 atomic numbers"),
        ({"energy": 1.0}, "both 'y' and 'energy'"),
        ({"y": torch.zeros(2)}, "'energy' is not one number"),
        ({"y": "low"}, "'energy' is not one number"),
        ({"pos": "here"}, "'pos' does not hold numbers"),
    ],
)
def test_a_wrong_attribute_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        read_record(pyg2(attributes(**changes)))


@pytest.mark.parametrize("other", [{"pos": 1}, [1, 2], 3])
def test_another_object_is_refused(other):
    with pytest.raises(ValueError, match="no pickled Data object"):
        read_record(pickle.dumps(other))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"atomic_numbers": torch.tensor([1.5, 6.0, 8.0])}, "'atomic_numbers'.*whole.*1.5"),
        ({"atomic_numbers": torch.tensor([float("nan"), 6, 8])}, "'atomic_numbers'.*whole.*nan"),
        ({"atomic_numbers": torch.tensor([0, 6, 8])}, "'atomic_numbers' must lie in 1 to 118"),
        ({"atomic_numbers": torch.tensor([119, 6, 8])}, "'atomic_numbers' must lie in 1 to 118"),
        ({"atomic_numbers": torch.tensor([1e30, 6, 8])}, "'atomic_numbers'.*whole"),
        ({"fixed": torch.tensor([0.5, 0, 1])}, "'fixed'.*whole.*0.5"),
        ({"fixed": torch.tensor([2, 0, 1])}, "'fixed' must lie in 0 to 1"),
        ({"fixed": torch.tensor([float("inf"), 0, 1])}, "'fixed'.*whole"),
        ({"tags": torch.tensor([0.5, 1, 2])}, "'tags'.*whole.*0.5"),
        ({"pbc": torch.tensor([0.5, 1, 1])}, "'pbc'.*whole.*0.5"),
        ({"pbc": torch.tensor([2, 1, 1])}, "'pbc' must lie in 0 to 1"),
        ({"natoms": 3.5}, "'natoms'.*whole.*3.5"),
        ({"sid": 1.9}, "'sid'.*whole.*1.9"),
        ({"sid": float("nan")}, "'sid'.*whole.*nan"),
        ({"fid": torch.tensor([0.5])}, "'fid'.*whole.*0.5"),
        ({"nads": 1.5}, "'nads'.*whole.*1.5"),
        ({"oc22": np.float64(0.5)}, "'oc22'.*whole.*0.5"),
    ],
)
@pytest.mark.parametrize("make", [pyg1, pyg2])
def test_no_number_is_cut_to_a_whole_one(changes, message, make):
    with pytest.raises(ValueError, match=message):
        read_record(make(attributes(**changes)))


def test_whole_numbers_may_be_floats():
    record = read_record(pyg2(attributes(sid=100.0, fid=torch.tensor([2.0]), natoms=3.0)))
    assert (record.sid, record.fid) == ("100", 2)


def test_a_kilobyte_does_not_become_a_gigabyte():
    widened = torch.zeros(1).expand(100_000_000, 3)
    pickled = pyg2(attributes(pos=widened))
    assert len(pickled) < 3_000
    with pytest.raises(ValueError, match="300,000,000 numbers, of which 1 are stored"):
        read_record(pickled)


def test_lists_that_hold_each_other_are_refused():
    inner: list = [1.0]
    for _ in range(40):
        inner = [inner, inner]
    for name in ("pos", "natoms", "cell"):
        with pytest.raises(ValueError, match=f"'{name}'"):
            read_record(pyg2(attributes(**{name: inner})))
