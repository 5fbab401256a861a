"""`eqv2 data split`: whole groups into files that hold the frames as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from own_frames import labelled

from eqv2_plugin.cli import main


@pytest.fixture
def mine(tmp_path) -> Path:
    """Forty frames of ten relaxations, labels under names of their own; every fifth has none."""
    frames = []
    for i in range(40):
        keys = (None, None) if i % 5 == 0 else ("REF_energy", "REF_forces")
        atoms = labelled("H2O", *keys, seed=i, run=f"r{i // 4}", number=i)
        if i % 5 == 0:
            atoms.calc = None
        frames.append(atoms)
    write(tmp_path / "mine.traj", frames)
    return tmp_path / "mine.traj"


def split(mine: Path, *options: str) -> dict[str, list[Atoms]]:
    out = mine.parent / "parts"
    assert main(["data", "split", str(mine), "--out", str(out), *options]) == 0
    return {path.stem: read(path, ":") for path in out.iterdir()}


def test_groups_stay_whole_and_frames_as_they_were(mine, capsys):
    parts = split(mine, "--group-key", "run", "--val", "0.2", "--test", "0.3")
    said = capsys.readouterr().out
    assert {part: len(frames) for part, frames in parts.items()} == {
        "train": 20, "val": 8, "test": 12
    }  # fmt: skip
    assert "whole groups by run, of 10" in said
    runs = {part: {atoms.info["run"] for atoms in frames} for part, frames in parts.items()}
    assert sum(map(len, runs.values())) == len(set.union(*runs.values())) == 10
    before = {atoms.info["number"]: atoms for atoms in read(mine, ":")}
    after = {atoms.info["number"]: atoms for frames in parts.values() for atoms in frames}
    assert before.keys() == after.keys()
    for number, atoms in after.items():
        np.testing.assert_array_equal(atoms.positions, before[number].positions)
        assert atoms.info.get("REF_energy") == before[number].info.get("REF_energy")
        np.testing.assert_array_equal(
            atoms.arrays.get("REF_forces"), before[number].arrays.get("REF_forces")
        )


def test_the_same_rule_parts_frames_for_training(mine):
    """Frames that `eqv2_train.yml` would hold out by default are those of val.extxyz."""
    from eqv2_plugin.data.conversion.sources import find_sources
    from eqv2_plugin.data.own.identity import identify
    from eqv2_plugin.data.own.split import split as chosen

    parts = split(mine, "--group-key", "run", "--val", "0.3", "--seed", "4")
    (source,) = find_sources([mine])
    notes = [identify(atoms, where, "run") for where, atoms in source.stored()]
    out = chosen(notes, 0.3, 4, "run").is_validation
    assert [atoms.info["number"] for atoms in parts["val"]] == np.flatnonzero(out).tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--val", "0.6", "--test", "0.5"], "leave nothing to train on"),
        (["--val", "0"], "val_fraction must lie between 0 and 1"),
        (["--group-key", "batch"], "has no 'batch' to group it by"),
    ],
)
def test_what_cannot_be_parted_leaves_nothing(mine, capsys, options, message):
    assert main(["data", "split", str(mine), "--out", str(mine.parent / "no"), *options]) == 1
    assert message in capsys.readouterr().err
    assert [path.name for path in mine.parent.iterdir()] == ["mine.traj"]


def test_a_folder_that_is_there_is_kept(mine, capsys):
    split(mine)
    assert main(["data", "split", str(mine), "--out", str(mine.parent / "parts")]) == 1
    assert "parts exists: give another --out" in capsys.readouterr().err
