"""The embedded copper alloys: splits that share no run, energies that are referenced."""

from __future__ import annotations

import numpy as np
import pytest

from eqv2_plugin.data.sample import SAMPLE_FOLDER, SAMPLES, load_sample

SPLITS = SAMPLES["cualloy_sample"]


@pytest.fixture(scope="module")
def frames():
    return {split: load_sample("cualloy_sample", split) for split in SPLITS}


def runs(atoms_list) -> set[str]:
    return {atoms.info["sid"] for atoms in atoms_list}


def alloys(atoms_list) -> set[str]:
    return {name.split("_")[0] for name in runs(atoms_list)}


def test_the_file_is_smaller_than_half_a_megabyte():
    assert (SAMPLE_FOLDER / "cualloy_sample.npz").stat().st_size < 500_000


def test_no_run_is_in_two_splits_and_val_ood_has_other_alloys(frames):
    train, val, ood = (frames[split] for split in SPLITS)
    assert [len(train), len(val), len(ood)] == [229, 58, 63]
    assert [len(runs(part)) for part in (train, val, ood)] == [77, 20, 21]
    assert runs(train).isdisjoint(runs(val))
    assert alloys(val) == alloys(train)
    assert alloys(ood) == {"Cu3Sn1", "Cu3Zn1"}
    assert alloys(ood).isdisjoint(alloys(train))


@pytest.mark.parametrize("split", SPLITS)
def test_energies_are_adsorption_energies_of_slabs_with_an_adsorbate(frames, split):
    for atoms in frames[split]:
        adsorbate = atoms.info["sid"].split("_")[2]
        assert sorted(atoms[atoms.get_tags() == 2].symbols) == sorted(adsorbate)
        assert abs(atoms.get_potential_energy()) < 10.0
        assert atoms.info["ref_energy"] < -170.0


@pytest.mark.parametrize("split", SPLITS)
def test_no_force_exceeds_ten_and_tags_tell_fixed_atoms(frames, split):
    for atoms in frames[split]:
        assert np.linalg.norm(atoms.calc.results["forces"], axis=1).max() <= 10.0
        fixed = np.zeros(len(atoms), dtype=bool)
        fixed[atoms.constraints[0].index] = True
        np.testing.assert_array_equal(atoms.get_tags() == 0, fixed)
