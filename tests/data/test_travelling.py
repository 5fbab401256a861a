"""Data sets in pickles, as spawned workers of data loaders get them."""

from __future__ import annotations

import pickle

import ase.db
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from fairchem.core.components.train import train_runner  # noqa: F401  # registers transforms

from eqv2_plugin.data.datasets import create_datasets
from eqv2_plugin.data.loading import create_dataloader
from eqv2_plugin.data.sample import write_ase_db
from eqv2_plugin.data.sampler import StructureBatchSampler
from eqv2_plugin.data.structures import open_structures

FRAMES = 5


def frames() -> list[Atoms]:
    random = np.random.default_rng(0)
    made = []
    for i in range(FRAMES):
        atoms = Atoms("CO", random.random((2, 3)), cell=np.eye(3) * 8, pbc=True)
        labels = {"energy": random.random(), "forces": random.random((2, 3))}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        atoms.info = {"sid": f"s{i}"}
        made.append(atoms)
    return made


@pytest.fixture(params=["aselmdb", "db", "json"])
def source(request, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    if request.param == "aselmdb":
        write_ase_db(frames(), folder)
        return folder
    with ase.db.connect(folder / f"data.{request.param}") as database:
        for atoms in frames():
            database.write(atoms, data=atoms.info)
    return folder / f"data.{request.param}"


def opened(source):
    return create_datasets(
        name="oc20",
        root=str(source.parent),
        splits={"train": {"src": source.name}},
        reader={
            "format": "ase_db",
            "a2g_args": {"r_energy": True, "r_forces": True},
            "key_mapping": {"energy": "energy", "forces": "forces"},
        },
        how_to_get="",
    )


def test_a_data_set_reads_the_same_after_the_journey(source):
    before = opened(source)
    after = pickle.loads(pickle.dumps(before))
    assert len(after) == FRAMES
    for i in range(FRAMES):
        for name in ("pos", "energy", "forces", "atomic_numbers"):
            assert torch.equal(after[i][name], before[i][name])
        assert after[i].sid == before[i].sid


def test_one_that_has_travelled_can_travel_on(source):
    twice = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(opened(source)))))
    assert twice[0].sid == opened(source)[0].sid


def test_structures_for_predictions_travel(source):
    structures = open_structures({"format": "ase_db", "src": str(source)})
    after = pickle.loads(pickle.dumps(structures))
    assert [a.info["sid"] for a in after] == [a.info["sid"] for a in structures]


def test_ids_without_gaps_take_no_room(source):
    reader = opened(source).datasets[0].dataset
    assert reader.ids == range(FRAMES)
    assert list(reader.db_ids) == [range(1, FRAMES + 1)]


def test_ids_with_gaps_stay(tmp_path):
    path = tmp_path / "data.db"
    with ase.db.connect(path) as database:
        for atoms in frames():
            database.write(atoms, data=atoms.info)
        database.delete([2])
    reader = opened(path).datasets[0].dataset
    assert list(reader.db_ids[0]) == [1, 3, 4, 5]
    assert [reader.get_atoms(i).info["sid"] for i in range(4)] == ["s0", "s2", "s3", "s4"]


def test_workers_stay_from_one_epoch_to_the_next(tmp_path):
    write_ase_db(frames(), tmp_path)
    datasets = opened(tmp_path)

    def sampler(dataset, num_replicas, rank):
        return StructureBatchSampler(dataset, 2, num_replicas, rank, drop_last=False)

    loader = create_dataloader(datasets, sampler, list, num_workers=1)
    batches = [[frame.sid for batch in loader for frame in batch] for _ in range(2)]
    assert sorted(map(str, batches[0])) == sorted(map(str, batches[1]))
    first = loader._iterator._workers[0].pid
    next(iter(loader))
    assert loader._iterator._workers[0].pid == first
