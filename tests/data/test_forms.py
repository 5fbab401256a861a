"""The same frames in every form that people have them train alike."""

from __future__ import annotations

import copy
import os
from functools import cache
from pathlib import Path

import ase.io
import hydra
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from downloads import write_pair
from fairchem.core.units.mlip_unit.mlip_unit import compute_loss
from lmdb_inputs import pyg1, stored, write_lmdb
from recipes import composed

from eqv2_plugin import cli
from eqv2_plugin.data.sample import load_sample, write_ase_db

SMALL = [
    "model.backbone.sphere_channels=8",
    "model.backbone.num_layers=1",
    "~data.val_splits.val_id",
    "~data.val_splits.val_ood",
    "+data.val_splits.train={src: train}",
    "job.device_type=CPU",
]


@cache
def frames():
    """Real frames; set EQV2_FORMS_FRAMES for more of them."""
    count = int(os.environ.get("EQV2_FORMS_FRAMES", "24"))
    pool = load_sample("oc20_sample", "train")
    picked = []
    for i in range(count):
        atoms = copy.deepcopy(pool[i % len(pool)])
        results = dict(atoms.calc.results)
        atoms.info["fid"] += 1000 * (i // len(pool))
        # As every form stores it.
        atoms.set_positions(atoms.positions.astype(np.float32), apply_constraint=False)
        atoms.calc = SinglePointCalculator(atoms, **results)
        picked.append(atoms)
    return picked


def run(*arguments: object) -> None:
    assert cli.main([str(argument) for argument in arguments]) == 0


def raw(folder: Path) -> list[str]:
    write_pair(folder / "download", "0", frames())
    run("data", "oc20", "--raw", folder / "download", "--out", folder / "train")
    return ["data=oc20_aselmdb"]


def raw_packed(folder: Path) -> list[str]:
    write_pair(folder / "download", "0", frames(), packed=True)
    run("data", "oc20", "--raw", folder / "download", "--out", folder / "train")
    return ["data=oc20_aselmdb"]


def write_records(folder: Path) -> None:
    """As LMDBs of OC20 have them: with numbers as sids."""
    records = []
    for atoms in frames():
        sid = int(atoms.info["sid"].removeprefix("random"))
        records.append(pyg1(stored(atoms) | {"sid": sid}))
    write_lmdb(folder / "data.0000.lmdb", records)


def lmdb_read(folder: Path) -> list[str]:
    write_records(folder / "train")
    return ["data=oc20_lmdb"]


def lmdb_converted(folder: Path) -> list[str]:
    write_records(folder / "old")
    run("data", "convert", folder / "old", "--out", folder / "train")
    return ["data=oc20_aselmdb"]


def trajectory_converted(folder: Path) -> list[str]:
    ase.io.write(folder / "frames.traj", frames())
    run("data", "convert", folder / "frames.traj", "--out", folder / "train")
    return ["data=oc20_aselmdb"]


def first_losses(folder: Path, data: list[str]) -> list[float]:
    """Loss of each task on the first training batch of a recipe."""
    removed = [f"~data.val_splits.val_ood_{name}" for name in ("ads", "cat", "both")]
    overrides = [*data, f"data_root={folder}", "seed=3", "scale=sample", *SMALL]
    overrides = [o for o in overrides if o != "~data.val_splits.val_ood"] + removed
    config = composed("eqv2_oc20", *overrides)
    torch.manual_seed(0)
    model = hydra.utils.instantiate(config.runner.train_eval_unit.model)
    tasks = [hydra.utils.instantiate(task) for task in config.runner.train_eval_unit.tasks]
    loader = hydra.utils.instantiate(config.runner.train_dataloader)
    batch = next(iter(loader))
    losses = compute_loss(tasks, model(batch), batch)
    return [float(losses[name]) for name in sorted(losses)]


@pytest.fixture(scope="module")
def wanted(tmp_path_factory) -> list[float]:
    """Of the frames as this package's sample writes them."""
    folder = tmp_path_factory.mktemp("sample")
    (folder / "train").mkdir()
    write_ase_db(frames(), folder / "train")
    return first_losses(folder, ["data=oc20_aselmdb"])


@pytest.mark.parametrize("form", [raw, raw_packed, lmdb_read, lmdb_converted, trajectory_converted])
def test_a_form_gives_the_same_first_losses(form, wanted, tmp_path):
    found = first_losses(tmp_path, form(tmp_path))
    assert len(found) == 2
    assert found == pytest.approx(wanted, rel=1e-6)
