"""Training and predictions read ASE data by our rules, whatever the form, and say what they do."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixCartesian, FixScaled
from ase.io import write as write_file

from eqv2_plugin.data.ase_dataset import own_format
from eqv2_plugin.data.datasets import create_datasets
from eqv2_plugin.data.sample import write_ase_db
from eqv2_plugin.data.structures import open_structures
from eqv2_plugin.training.checks import check_frames


def frames(count: int = 3, **info: object) -> list[Atoms]:
    """Slabs whose first two atoms are held, and whose last one is held in part."""
    found = []
    for fid in range(count):
        atoms = fcc111("Cu", (2, 2, 2), vacuum=6.0, periodic=True)
        atoms.info = {"sid": "7", "fid": fid, **info}
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0 - fid, forces=np.ones((8, 3)))
        atoms.set_constraint([FixScaled([0, 1]), FixCartesian([7], (False, True, True))])
        found.append(atoms)
    return found


@pytest.fixture
def database(tmp_path) -> Path:
    write_ase_db(frames(REF_energy=-2.0, virial=np.eye(3)), tmp_path)
    return tmp_path


def test_what_is_not_read_and_what_is_held_in_part_is_said_once(database, caplog):
    with caplog.at_level(logging.WARNING):
        data = create_datasets("mine", str(database), {"train": {"src": "."}},
                               {"format": "ase_db"}, "")  # fmt: skip
        assert [int(data[i].fixed.sum()) for i in range(3)] == [2, 2, 2]
    for said in ("stored but not read: REF_energy, virial; labels are", "one or two directions"):
        assert sum(said in message for message in caplog.messages) == 1


@pytest.mark.parametrize("name", ["mine.extxyz", "mine.traj", "POSCAR"])
def test_files_that_ase_reads_follow_the_same_rules(tmp_path, name):
    atoms = frames(1)[0]
    if name == "mine.extxyz":  # which knows no FixScaled
        atoms.set_constraint([FixCartesian([0, 1]), atoms.constraints[1]])
    elif name == "POSCAR":  # which knows no FixCartesian
        atoms.set_constraint([FixScaled([0, 1]), FixScaled([7], (True, False, False))])
    write_file(tmp_path / name, atoms)
    data = create_datasets("mine", str(tmp_path), {"train": {"src": "."}},
                           {"format": "ase_read"}, "")  # fmt: skip
    assert np.flatnonzero(data[0].fixed).tolist() == [0, 1]
    stored = open_structures({"format": "ase_read", "src": str(tmp_path)})[0]
    assert len(stored.constraints) == 2  # what is held in part stays so in a relaxation


def test_a_contradiction_in_the_last_frame_is_named_before_the_first_step(tmp_path):
    poisoned = frames()
    poisoned[-1].info["energy"] = -9.0
    write_ase_db(poisoned, tmp_path)
    structures = open_structures({"format": "ase_db", "src": str(tmp_path)}, "val")
    assert structures[1].calc.results["energy"] == -2.0
    with pytest.raises(ValueError, match=r"val: structure 2 .*sid 7.*'energy' \(-9\).*\(-3\)"):
        structures[2]
    with pytest.raises(ValueError, match=r"structure 2 \(sid 7\): .*'energy' \(-9\)"):
        check_frames(
            create_datasets("mine", str(tmp_path), {"train": {"src": "."}},
                            {"format": "ase_db"}, ""),
            [SimpleNamespace(name="energy", datasets=["mine"], element_references=None)],
            100,
        )  # fmt: skip


def test_other_formats_keep_their_readers():
    assert own_format("ase_db") != "ase_db"
    assert own_format("oc22_lmdb") == "oc22_lmdb"
