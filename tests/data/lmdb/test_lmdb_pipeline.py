"""fairchem's own pipeline on LMDB data: samplers, workers, collater, recipes."""

from __future__ import annotations

import hydra
import pytest
import torch
from ase.geometry import wrap_positions
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.datasets.samplers.max_atom_distributed_sampler import (
    MaxAtomDistributedBatchSampler,
)
from fairchem.core.units.mlip_unit.mlip_unit import mt_collater_adapter
from lmdb_inputs import EMBEDDED, READER, attributes, pyg2, splits, stored, write_frames, write_lmdb
from recipes import composed
from torch.utils.data import DataLoader

from eqv2_plugin.data.lmdb import LmdbDataset, OC22LmdbDataset
from eqv2_plugin.data.sample import load_sample, sample_directory
from eqv2_plugin.data.sampler import StructureBatchSampler
from eqv2_plugin.dens.checks import check_denoising_data
from eqv2_plugin.dens.config import DenoisingConfig
from eqv2_plugin.training.checks import check_frames


@pytest.fixture(scope="module")
def tasks() -> list:
    config = composed("eqv2_oc20")
    return [hydra.utils.instantiate(task) for task in config.runner.train_eval_unit.tasks]


def assert_same(found: AtomicData, wanted: AtomicData) -> None:
    assert set(found.keys()) == set(wanted.keys())
    for name, value in wanted:
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)
        else:
            assert found[name] == value


@pytest.fixture(scope="module")
def same_frames(tmp_path_factory):
    """Frames of the embedded sample as fairchem-core 1 and as fairchem-core 2 store them."""
    cache = tmp_path_factory.mktemp("cache")
    folder = tmp_path_factory.mktemp("lmdb")
    records = []
    for atoms in load_sample("oc20_sample", "val_ood"):
        positions = wrap_positions(atoms.positions, atoms.cell, atoms.pbc, eps=0)
        wrapped = torch.tensor(positions, dtype=torch.float32)
        records.append(pyg2(stored(atoms) | {"pos": wrapped}))
    write_lmdb(folder / "val_ood" / "data.0000.lmdb", records[:50])
    write_lmdb(folder / "val_ood" / "data.0001.lmdb", records[50:])
    ase_root = sample_directory("oc20_sample", "val_ood", cache)
    return (
        splits(folder, val_ood="val_ood"),
        splits(ase_root.parent, {**READER, "format": "ase_db"}, val_ood=ase_root.name),
    )


def test_every_field_of_every_frame_equals_that_of_ase_db(same_frames):
    lmdb_data, ase_data = same_frames
    assert len(lmdb_data) == len(ase_data) == 90
    for found, wanted in zip(lmdb_data, ase_data, strict=True):
        assert_same(found, wanted)


def test_a_batch_equals_that_of_ase_db(same_frames, tasks):
    collate = mt_collater_adapter(tasks)
    found, wanted = (collate([data[i] for i in (3, 1, 77)]) for data in same_frames)
    assert found.energy.dtype == found.forces.dtype == torch.float32
    assert len(found.forces) == found.natoms.sum()
    assert_same(found, wanted)


@pytest.mark.parametrize("vintage", ["s2ef_lmdb_folder_ref", "s2ef_legacy_keys"])
def test_files_of_fairchem_1_collate(vintage, tasks):
    data = splits(EMBEDDED, train=vintage)
    check_frames(data, tasks, 100)
    batch = mt_collater_adapter(tasks)([data[i] for i in range(5)])
    assert batch.num_graphs == len(batch.energy) == 5
    assert sorted(sid.split("-")[1] for sid in batch.sid) == ["frame"] * 5


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        (StructureBatchSampler, {"batch_size": 4, "shuffle": True}),
        (MaxAtomDistributedBatchSampler, {"max_atoms": 12}),
    ],
)
def test_distributed_samplers_reach_every_structure(tmp_path, sampler, options):
    write_frames(tmp_path / "train" / "a.lmdb", 7)
    write_frames(tmp_path / "train" / "b.lmdb", 9, first=7)
    data = splits(tmp_path, train="train")
    batches = [
        batch
        for rank in range(2)
        for batch in sampler(data, num_replicas=2, rank=rank, seed=0, **options)
    ]
    assert {i for batch in batches for i in batch} == set(range(16))
    if "max_atoms" in options:
        assert max(sum(int(data[i].natoms) for i in batch) for batch in batches) <= 12


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_read_the_same_batches(tmp_path, context, tasks):
    write_frames(tmp_path / "train" / "a.lmdb", 5)
    write_frames(tmp_path / "train" / "b.lmdb", 3, first=5)
    data = splits(tmp_path, train="train")
    options = {"batch_size": 4, "collate_fn": mt_collater_adapter(tasks)}
    wanted = list(DataLoader(data, **options))  # which also opens files before the fork
    found = list(DataLoader(data, num_workers=1, multiprocessing_context=context, **options))
    assert len(found) == len(wanted) == 2
    for one, other in zip(found, wanted, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(
    ("config", "overrides", "reader"),
    [
        ("eqv2_oc20", ["data=oc20_lmdb"], LmdbDataset),  # the sample's scale
        ("eqv2_oc20", ["scale=oc20_2m", "data=oc20_lmdb"], LmdbDataset),
        ("eqv2_dens_oc20", ["scale=oc20_2m_12ep", "data=oc20_lmdb"], LmdbDataset),
        ("eqv2_oc22", ["data=oc22_lmdb"], OC22LmdbDataset),
        ("eqv2_dens_oc22", ["data=oc22_lmdb"], OC22LmdbDataset),
    ],
)
def test_recipes_read_lmdb_data(config, overrides, reader, tmp_path):
    oc22 = reader is OC22LmdbDataset
    source = EMBEDDED / ("oc22_s2ef" if oc22 else "s2ef_legacy_keys")
    for folder in ("train", "val_id", "val_ood", "val_ood_ads", "val_ood_cat", "val_ood_both"):
        (tmp_path / folder).symlink_to(source)
    runner = composed(config, *overrides, f"data_root={tmp_path}").runner
    tasks = [hydra.utils.instantiate(task) for task in runner.train_eval_unit.tasks]
    for loader, count in ((runner.train_dataloader, 1), (runner.eval_dataloader, 2 if oc22 else 4)):
        data = hydra.utils.instantiate(loader.dataset)
        assert [type(subset.dataset) for subset in data.datasets] == [reader] * count
        check_frames(data, tasks, 100)


def test_denoising_refuses_records_that_do_not_say_what_is_fixed(tmp_path):
    write_frames(tmp_path / "said" / "data.lmdb", 3)
    records = [pyg2(attributes(i, fixed=None)) for i in range(3)]
    write_lmdb(tmp_path / "unsaid" / "data.lmdb", records)
    dens = DenoisingConfig(probability=0.5, corruption_ratio=0.5, sigma=0.1, coefficient=10)
    check_denoising_data(splits(tmp_path, train="said"), dens)
    with pytest.raises(ValueError, match=r"records of oc20\.unsure have no 'fixed'"):
        check_denoising_data(splits(tmp_path, train="said", unsure="unsaid"), dens)
