"""OC22: total energies, linear references, and OC20 joined to it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from fairchem.core.datasets.atomic_data import atomicdata_list_to_batch
from lmdb_inputs import EMBEDDED, attributes, pyg1, pyg2, write_lmdb

from eqv2_plugin.data.datasets import create_datasets
from eqv2_plugin.data.lmdb import LmdbDataset, OC22LmdbDataset

OC22 = {"oc22": 1, "nads": 2}
RELAXED = {"y": None, "fid": None, "y_relaxed": -500.25, "y_init": -499.0}


def coefficients(tmp_path, values=None):
    values = np.linspace(-8.0, -1.0, 101) if values is None else values
    np.savez(tmp_path / "coefficients.npz", coeff=values)
    return values, str(tmp_path / "coefficients.npz")


def references(tmp_path, content=None) -> dict:
    content = {"random100": 27.5, "random101": np.float64(14.25)} if content is None else content
    (tmp_path / "ref.pkl").write_bytes(pickle.dumps(content))
    return {"train_on_oc20_total_energies": True, "oc20_ref": str(tmp_path / "ref.pkl")}


def opened(tmp_path, *records: dict, **options) -> OC22LmdbDataset:
    path = write_lmdb(tmp_path / "data.lmdb", [pyg2(record) for record in records])
    return OC22LmdbDataset({"src": str(path), **options})


def test_energies_are_total_without_a_reference(tmp_path):
    assert opened(tmp_path, attributes(y=-500.25, **OC22)).record(0).energies == {"energy": -500.25}


def test_the_linear_reference_is_subtracted_in_double_precision(tmp_path):
    values, path = coefficients(tmp_path)
    data = opened(tmp_path, attributes(y=-500.25, **OC22), lin_ref=path)
    wanted = -500.25 - (values[8] + values[6] + values[29])
    assert data.record(0).energies["energy"] == pytest.approx(wanted, abs=1e-12)
    assert data[0].energy.item() == pytest.approx(wanted, abs=1e-4)


def test_all_energies_of_a_relaxation_have_the_same_reference(tmp_path):
    values, path = coefficients(tmp_path)
    energies = opened(tmp_path, attributes(**RELAXED, **OC22), lin_ref=path).record(0).energies
    shift = values[8] + values[6] + values[29]
    assert energies == pytest.approx({"y_relaxed": -500.25 - shift, "y_init": -499.0 - shift})


def test_the_reference_reaches_a_data_set_of_a_recipe(tmp_path):
    _, path = coefficients(tmp_path)
    write_lmdb(tmp_path / "train" / "data.lmdb", [pyg1(attributes(y=-500.25, **OC22))])

    def energy(**options) -> float:
        reader = {"format": "oc22_lmdb", "key_mapping": {"y": "energy"}, **options}
        splits = {"train": {"src": "train"}}
        return float(create_datasets("oc22", str(tmp_path), splits, reader, "")[0].energy)

    assert energy(lin_ref=path) - energy() > 1.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(20), "no value for Cu, which it holds"),
        (np.where(np.arange(101) == 6, 1e10, 1.0), "no value for C"),
        (np.where(np.arange(101) == 8, np.nan, 1.0), "no value for O"),
        (np.zeros((2, 50)), "'coeff' must be a list of numbers"),
    ],
)
def test_an_unusable_linear_reference_is_refused(tmp_path, values, message):
    _, path = coefficients(tmp_path, values)
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, attributes(**OC22), lin_ref=path)[0]


def test_oc20_energies_become_total(tmp_path):
    data = opened(
        tmp_path,
        attributes(0, y=-1.5),
        attributes(1, y=-2.5),
        attributes(2, y=-500.25, **OC22),
        **references(tmp_path),
    )
    energies = [data.record(i).energies["energy"] for i in range(3)]
    assert energies == pytest.approx([26.0, 11.75, -500.25], abs=1e-12)
    batch = atomicdata_list_to_batch([data[i] for i in range(3)])
    assert batch.oc22.tolist() == [0, 0, 1]
    assert batch.nads.tolist() == [1, 1, 2]


def test_oc20_relaxations_join_those_of_oc22(tmp_path):
    oc22 = {**attributes(1, **RELAXED, **OC22), "y_init": None, "force": None}
    data = opened(tmp_path, attributes(**RELAXED), oc22, **references(tmp_path))
    assert data.record(0).energies == {"y_relaxed": -472.75}
    assert atomicdata_list_to_batch([data[0], data[1]]).y_relaxed.tolist() == [-472.75, -500.25]


def test_oc20_without_references_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"record '0'.*of OC20.*train_on_oc20_total_energies=true"):
        opened(tmp_path, attributes())[0]


def test_a_system_without_reference_is_named(tmp_path):
    data = opened(tmp_path, attributes(7), **references(tmp_path))
    with pytest.raises(ValueError, match=r"oc20_ref .*ref\.pkl has no 'random107'"):
        data[0]


@pytest.mark.parametrize("left_out", ["train_on_oc20_total_energies", "oc20_ref"])
def test_half_of_the_oc20_options_is_refused(tmp_path, left_out):
    options = references(tmp_path)
    del options[left_out]
    with pytest.raises(ValueError, match="set together or not at all"):
        opened(tmp_path, attributes(), **options)


def test_references_that_are_no_dictionary_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no pickled dictionary"):
        opened(tmp_path, attributes(), **references(tmp_path, [1.0, 2.0]))


def test_references_are_not_sent_to_workers(tmp_path):
    many = {f"random{i}": float(i) for i in range(20_000)}
    data = opened(tmp_path, attributes(), **references(tmp_path, many))
    sent = pickle.dumps(data)
    assert len(sent) < 10_000
    assert pickle.loads(sent).record(0).energies == data.record(0).energies


def test_structures_without_labels_pass_for_prediction(tmp_path):
    _, path = coefficients(tmp_path)
    data = opened(tmp_path, attributes(y=None, force=None), lin_ref=path)
    assert "energy" not in data[0]


@pytest.mark.parametrize(("kind", "clean"), [("adslabs", [False] * 3), ("slabs", [True] * 2)])
def test_only_one_kind_of_surface_is_chosen(kind, clean):
    data = OC22LmdbDataset({"src": str(EMBEDDED / "oc22_s2ef"), "data2train": kind})
    # In this data clean slabs have no adsorbate.
    assert [data.record(i).counts["nads"] == 0 for i in range(len(data))] == clean
    assert len({data[i].sid[0] for i in range(len(data))}) == len(data)


def test_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="must be one of all, adslabs, slabs, not 'adslab'"):
        opened(tmp_path, attributes(**OC22), data2train="adslab")


def test_lists_that_do_not_fit_the_records_are_refused(tmp_path):
    write_lmdb(tmp_path / "data.lmdb", [pyg1(attributes(i, **OC22)) for i in range(2)])
    (tmp_path / "data_log.txt").write_text("clean_1,frame0\n")
    with pytest.raises(ValueError, match="has 1 lines for 2 records"):
        OC22LmdbDataset({"src": str(tmp_path), "data2train": "slabs"})


def test_oc22_data_are_also_read_by_the_general_reader(tmp_path):
    path = write_lmdb(tmp_path / "data.lmdb", [pyg1(attributes(y=-500.25, **OC22))])
    assert LmdbDataset({"src": str(path)})[0].oc22.tolist() == [1]
