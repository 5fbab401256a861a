"""What is wrong with the training data is said before the first step."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from dens_inputs import config

from eqv2_plugin.data.datasets import create_datasets
from eqv2_plugin.data.sample import write_ase_db
from eqv2_plugin.dens.checks import check_denoising_data

READER = {"format": "ase_db", "key_mapping": {"energy": "energy", "forces": "forces"}}


def written(root, bad: tuple[int, int, float] | None = None, frames: int = 4, **splits: str):
    """Splits of random frames; ``bad``: frame, atom and what is written as its force."""
    for folder in splits.values():
        rng, images = np.random.default_rng(0), []
        for index in range(frames):
            forces = rng.normal(size=(2, 3))
            if bad is not None and bad[0] == index:
                forces[bad[1], 2] = bad[2]
            atoms = Atoms("CO", rng.normal(size=(2, 3)), cell=[8, 8, 8], pbc=True)
            atoms.info["sid"] = f"run{index}"
            energy = float(rng.normal())
            atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
            images.append(atoms)
        (root / folder).mkdir()
        write_ase_db(images, root / folder)
    sources = {split: {"src": folder} for split, folder in splits.items()}
    return create_datasets("oc20", str(root), sources, READER, "")


def test_good_data_passes(tmp_path):
    datasets = written(tmp_path, train="train", md="md")
    check_denoising_data(datasets, config(exclude_splits=["md"]))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_force_that_is_not_finite_is_found_wherever_it_is(tmp_path, value):
    datasets = written(tmp_path, bad=(2, 1, value), train="train")
    with pytest.raises(ValueError, match=r"force on atom 1 of .*'run2'.* of row 2 of oc20"):
        check_denoising_data(datasets, config())


def test_an_excluded_split_must_exist(tmp_path):
    datasets = written(tmp_path, train="train")
    with pytest.raises(ValueError, match=r"names \['md'\], but the splits .* are \['train'\]"):
        check_denoising_data(datasets, config(exclude_splits=["md"]))


def test_a_split_alone_is_no_list():
    with pytest.raises(ValueError, match="exclude_splits must be a list of names, got 'md'"):
        config(exclude_splits="md")
