"""The LMDB data sets: names, labels, parts, sizes, and options that are refused."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fairchem.core.common.registry import registry
from fairchem.core.datasets import create_dataset
from fairchem.core.datasets.atomic_data import atomicdata_list_to_batch
from lmdb_inputs import EMBEDDED, LABELS, attributes, pyg1, splits, write_frames, write_lmdb

from eqv2_plugin.data.lmdb import LmdbDataset, OC22LmdbDataset
from eqv2_plugin.data.lmdb.shards import Shards
from eqv2_plugin.training.checks import check_frames

TASKS = [SimpleNamespace(name=name, datasets=["oc20"], element_references=None) for name in LABELS]
NAMES = ["lmdb", "single_point_lmdb", "trajectory_lmdb"]


@pytest.mark.parametrize("name", NAMES)
def test_the_old_names_lead_to_the_reader(name):
    assert registry.get_dataset_class(name) is LmdbDataset
    assert registry.get_dataset_class("oc22_lmdb") is OC22LmdbDataset


@pytest.mark.parametrize("cls", [LmdbDataset, OC22LmdbDataset])
def test_the_reader_is_found_by_its_path(cls):
    assert registry.get_dataset_class(f"{cls.__module__}.{cls.__qualname__}") is cls


def test_lmdb_is_the_default_format_of_fairchem(tmp_path):
    path = write_frames(tmp_path / "data.lmdb", 2)
    assert isinstance(create_dataset({"src": str(path)}, "train").dataset, LmdbDataset)


@pytest.mark.parametrize("mapping", [LABELS, {"y": "energy", "force": "forces"}, None])
@pytest.mark.parametrize("vintage", ["s2ef_lmdb_folder_ref", "s2ef_legacy_keys"])
def test_old_and_new_label_names_read_old_and_new_files(vintage, mapping):
    config = {"src": str(EMBEDDED / vintage), "key_mapping": mapping}
    data = LmdbDataset(config)[0]
    assert {"energy", "forces"} <= set(data.keys())
    assert not {"y", "force"} & set(data.keys())


def test_a_label_can_have_several_names(tmp_path):
    path = write_frames(tmp_path / "data.lmdb", 1)
    mapping = {"energy": ["energy", "oc20_energy"], "forces": "oc20_forces"}
    data = LmdbDataset({"src": str(path), "key_mapping": mapping})[0]
    assert torch.equal(data.energy, data.oc20_energy)
    assert data.oc20_forces.shape == (3, 3)
    assert "forces" not in data


def test_relaxation_labels_can_be_mapped():
    source = str(EMBEDDED / "is2re_folder")
    plain = LmdbDataset({"src": source})[0]
    assert plain.pos_relaxed.shape == plain.pos.shape
    assert plain.y_init.shape == plain.y_relaxed.shape == (1,)
    assert "energy" not in plain
    mapping = {"y_relaxed": "energy", "pos_relaxed": "positions"}
    mapped = LmdbDataset({"src": source, "key_mapping": mapping})[0]
    assert torch.equal(mapped.energy, plain.y_relaxed)
    assert torch.equal(mapped.positions, plain.pos_relaxed)
    atomicdata_list_to_batch([mapped, mapped.clone()])


def test_structures_without_labels_can_be_read_for_prediction():
    data = LmdbDataset({"src": str(EMBEDDED / "s2ef_lmdb_test")})
    batch = atomicdata_list_to_batch([data[0], data[1]])
    assert batch.num_graphs == 2
    assert not {"energy", "forces"} & set(batch.keys())


def test_structures_without_labels_are_refused_for_training():
    with pytest.raises(
        ValueError, match=r"record '\d' of .*data\.0000\.lmdb: it has no label 'energy' .*Training"
    ):
        splits(EMBEDDED, train="s2ef_lmdb_test")
    unmapped = splits(EMBEDDED, {"format": "lmdb"}, train="s2ef_lmdb_test")
    with pytest.raises(ValueError, match=r"oc20\.train has no label 'energy'"):
        check_frames(unmapped, TASKS, 100)


def test_one_record_without_labels_among_others_is_named(tmp_path):
    records = [pyg1(attributes(0)), pyg1(attributes(1, force=None))]
    path = write_lmdb(tmp_path / "data.lmdb", records)
    data = LmdbDataset({"src": str(path), "key_mapping": LABELS})
    assert "forces" in data[0]
    with pytest.raises(ValueError, match=r"record '1'.*no label 'forces' \(it has: energy\)"):
        data[1]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"enrgy": "energy"}, r"record '0' of .*data\.lmdb: it has no label 'enrgy'"),
        ({"y_relaxed": "energy"}, "no label 'y_relaxed' .it has: energy, forces"),
        ({"forces": "energy"}, "two labels the name 'energy'"),
        ({"energy": ["a", "a"]}, "two labels the name 'a'"),
    ],
)
def test_a_wrong_key_mapping_is_refused(tmp_path, mapping, message):
    path = write_frames(tmp_path / "data.lmdb", 1)
    with pytest.raises(ValueError, match=message):
        LmdbDataset({"src": str(path), "key_mapping": mapping})[0]


@pytest.mark.parametrize("option", ["lin_ref", "oc20_ref", "normalize_labels"])
def test_an_unknown_option_is_refused(tmp_path, option):
    path = write_frames(tmp_path / "data.lmdb", 1)
    with pytest.raises(ValueError, match=rf"unknown option\(s\) \['{option}'\]"):
        LmdbDataset({"src": str(path), option: "x"})


@pytest.mark.parametrize("src", [["a.lmdb", "b.lmdb"], None])
def test_several_sources_are_refused(src):
    with pytest.raises(ValueError, match="src must be one LMDB file or one folder"):
        LmdbDataset({"src": src})


def test_damage_is_told_when_the_data_set_is_made(tmp_path):
    write_lmdb(tmp_path / "train" / "data.lmdb", [pyg1(attributes(pos=None))])
    with pytest.raises(ValueError, match=r"cannot read the data set oc20.*it has no 'pos'"):
        splits(tmp_path, train="train")


@pytest.mark.parametrize(("count", "total"), [(15, 3), (16, 3), (5, 5), (7, 1)])
def test_parts_are_disjoint_and_complete(tmp_path, count, total):
    path = write_frames(tmp_path / "data.lmdb", count)
    np.savez(tmp_path / "metadata.npz", natoms=np.array([3 + i % 4 for i in range(count)]))
    parts = [
        LmdbDataset({"src": str(path), "shard": i, "total_shards": total}) for i in range(total)
    ]
    wanted = [a.tolist() for a in np.array_split(np.arange(count), total)]
    found = [[int(part.record(i).sid) - 100 for i in range(len(part))] for part in parts]
    assert found == wanted
    for part in parts:  # metadata is that of the part
        sizes = [len(part.record(i).numbers) for i in range(len(part))]
        assert list(part.get_metadata("natoms", [*range(len(part))])) == sizes
        assert len(create_dataset(part.config, "train")) == len(part)


@pytest.mark.parametrize("part", [(3, 3), (-1, 3), (0, None), (None, 2), (0.0, 1), (5, 6)])
def test_a_part_that_is_none_is_refused(tmp_path, part):
    path = write_frames(tmp_path / "data.lmdb", 5)
    options = dict(zip(("shard", "total_shards"), part, strict=True))
    with pytest.raises(ValueError, match=r"0 <= shard < total_shards|shard 5 of 6 is empty"):
        LmdbDataset(
            {"src": str(path), **{k: v for k, v in options.items() if v is not None}},
        )


@pytest.mark.parametrize("index", [3, 10])
def test_iteration_ends_after_the_last_structure(tmp_path, index):
    data = LmdbDataset({"src": str(write_frames(tmp_path / "data.lmdb", 3))})
    assert [d.sid[0] for d in data] == ["100-frame-0", "101-frame-1", "102-frame-2"]
    with pytest.raises(IndexError):
        data[index]


@pytest.mark.parametrize("with_metadata", [True, False])
def test_sizes_come_from_metadata_or_from_the_records(tmp_path, with_metadata, monkeypatch):
    write_frames(tmp_path / "train" / "data.0000.lmdb", 5)
    write_frames(tmp_path / "train" / "data.0001.lmdb", 4, first=5)
    sizes = np.array([3 + i % 4 for i in range(9)])
    if with_metadata:
        np.savez(tmp_path / "train" / "metadata.npz", natoms=sizes)
    data = splits(tmp_path, train="train")
    reads = []
    read = Shards.read
    monkeypatch.setattr(Shards, "read", lambda self, i: reads.append(i) or read(self, i))
    order = data.datasets[0].indices
    for _ in range(2):
        assert list(data.get_metadata("natoms", [0, 8, 4, 4])) == list(sizes[order[[0, 8, 4, 4]]])
        assert data.get_metadata("natoms", 7) == sizes[order[7]]
    assert len(reads) == (0 if with_metadata else 4)
    assert data.datasets[0].dataset.get_metadata("volume", 0) is None
    small = create_dataset({"src": str(tmp_path / "train"), "max_atoms": 4}, "train")
    assert sorted(int(d.natoms) for d in small) == sorted(n for n in sizes if n <= 4)


def test_metadata_of_other_data_is_refused(tmp_path):
    path = write_frames(tmp_path / "data.lmdb", 3)
    np.savez(tmp_path / "metadata.npz", natoms=np.array([3, 4]))
    with pytest.raises(ValueError, match="has 2 entries 'natoms' for the 3 records"):
        create_dataset({"src": str(path)}, "train")
    np.savez(tmp_path / "right.npz", natoms=np.array([3, 4, 5]))
    right = {"src": str(path), "metadata_path": str(tmp_path / "right.npz")}
    assert LmdbDataset(right).get_metadata("natoms", 1) == 4


def test_little_is_sent_to_a_worker(tmp_path, monkeypatch):
    path = write_frames(tmp_path / "data.lmdb", 1)
    np.savez(tmp_path / "metadata.npz", natoms=np.full(1_000_000, 3))
    million = Shards([str(tmp_path / f"data.{i:04d}.lmdb") for i in range(1000)], [1000] * 1000)
    monkeypatch.setattr(Shards, "at", lambda source: million)
    data = LmdbDataset({"src": str(path)})
    assert len(data) == len(data.indices) == 1_000_000
    assert data.get_metadata("natoms", 999_999) == 3
    data._sizes(np.array([], int))
    sent = pickle.dumps(data)
    assert len(sent) < 200_000
    assert len(pickle.loads(sent)) == 1_000_000
