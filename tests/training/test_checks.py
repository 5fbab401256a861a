"""Data sets, tasks and normalisers that cannot be get one clear error before the first step."""

from __future__ import annotations

import os
from types import SimpleNamespace

import ase.db
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from eqv2_plugin.common.ranks import step_seed
from eqv2_plugin.data.datasets import EMBEDDED, create_datasets
from eqv2_plugin.data.references import element_references, normalizer
from eqv2_plugin.training.checks import check_frames, check_tasks_match_heads

TASKS = [
    SimpleNamespace(name=name, datasets=["oc20"], element_references=None)
    for name in ("energy", "forces")
]
READER = {"format": "ase_db", "key_mapping": {"energy": "energy", "forces": "forces"}}


def datasets(root, how_to_get="Fetch it.", **splits):
    sources = {split: {"src": src} for split, src in splits.items()}
    return create_datasets("oc20", root, sources, READER, how_to_get)


def write_frames(folder, labelled: bool) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    with ase.db.connect(str(folder / "part.aselmdb"), type="aselmdb") as database:
        for _ in range(3):
            atoms = Atoms("CO", rng.normal(size=(2, 3)), cell=[8, 8, 8], pbc=True)
            if labelled:
                forces = rng.normal(size=(2, 3))
                atoms.calc = SinglePointCalculator(atoms, energy=-1.5, forces=forces)
            database.write(atoms)
    np.savez(folder / "metadata.npz", natoms=np.full(3, 2))


def test_no_data_root_says_how_to_get_the_data():
    with pytest.raises(FileNotFoundError, match=r"set data_root=FOLDER\. Fetch it\."):
        datasets(None, train="train")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="train does not exist"):
        datasets(str(tmp_path), train="train")


def test_a_damaged_database_is_not_skipped(tmp_path):
    write_frames(tmp_path / "train", labelled=True)
    (tmp_path / "train" / "second.aselmdb").write_bytes(b"not a database" * 100)
    with pytest.raises(ValueError, match="again"):
        datasets(str(tmp_path), train="train")


def test_a_database_that_was_cut_off_is_refused(tmp_path):
    write_frames(tmp_path / "train", labelled=True)
    path = tmp_path / "train" / "part.aselmdb"
    pages = path.stat().st_size // 4096
    os.truncate(path, (pages - 1) * 4096)
    with pytest.raises(ValueError, match=r"part\.aselmdb is cut off.*again"):
        datasets(str(tmp_path), train="train")


def test_frames_without_labels_are_refused(tmp_path):
    write_frames(tmp_path / "train", labelled=False)
    with pytest.raises(ValueError, match=r"oc20\.train has no label 'energy'"):
        check_frames(datasets(str(tmp_path), train="train"), TASKS, 100)


def test_labelled_frames_pass(tmp_path):
    write_frames(tmp_path / "train", labelled=True)
    found = datasets(str(tmp_path), train="train")
    check_frames(found, TASKS, 100)
    assert len(found) == 3


def test_repeats_multiply_an_epoch(tmp_path):
    write_frames(tmp_path / "train", labelled=True)
    sources = {"train": {"src": "train"}}
    assert len(create_datasets("oc20", str(tmp_path), sources, READER, "", repeats=4)) == 12


def test_the_embedded_sample_has_no_other_split(tmp_path, monkeypatch):
    monkeypatch.setenv("EQV2_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="unknown split 'test'"):
        datasets(f"{EMBEDDED}oc20_sample", test="test")


def test_a_task_without_head_and_a_head_without_task_are_refused():
    names = {"output_names": {"energy", "forces"}, "gradient_names": set()}
    model = SimpleNamespace(output_heads={}, **names)
    energy, forces, stress = (SimpleNamespace(name=n) for n in ("energy", "forces", "stress"))
    check_tasks_match_heads(model, [energy, forces])
    with pytest.raises(ValueError, match=r"\['stress'\] have no head"):
        check_tasks_match_heads(model, [energy, forces, stress])
    with pytest.raises(ValueError, match=r"\['forces'\] have no task"):
        check_tasks_match_heads(model, [energy])
    model.gradient_names = {"forces"}
    check_tasks_match_heads(model, [energy])


@pytest.mark.parametrize(
    ("mean", "rmsd", "message"),
    [([0.0, 1.0], 1.0, "one number"), (0.0, "2", "one number"), (0.0, 0.0, "must be positive")],
)
def test_a_wrong_normaliser_is_refused(mean, rmsd, message):
    with pytest.raises(ValueError, match=message):
        normalizer(mean, rmsd)


def test_a_normaliser_maps_mean_and_rmsd_to_zero_and_one():
    scale = normalizer(-0.75, 2.5)
    torch.testing.assert_close(scale.norm(torch.tensor([-0.75, 1.75])), torch.tensor([0.0, 1.0]))


def test_oc22_references_hold_for_oxides_and_not_for_absent_elements():
    values = element_references("oc22_linear").element_references
    assert values[8] == pytest.approx(-6.66451126)
    # The published fit has 1e9 eV for boron, which OC22 does not contain.
    assert torch.isnan(values[5])
    with pytest.raises(ValueError, match="oc22_linear"):
        element_references("oc23")


def test_step_seeds_differ_between_ranks_and_steps_and_repeat():
    seeds = {step_seed(0, rank, step) for rank in range(4) for step in range(100)}
    assert len(seeds) == 400
    assert step_seed(1, 2, 3) == step_seed(1, 2, 3) != step_seed(2, 2, 3)
