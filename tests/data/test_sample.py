"""The embedded samples: what they contain, and their way through fairchem."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ase.geometry import wrap_positions
from downloads import read_by_fairchem

from eqv2_plugin.data.sample import SAMPLE_FOLDER, SAMPLES, load_sample, sample_directory

SPLITS = SAMPLES["oc20_sample"]
load_oc20_sample = partial(load_sample, "oc20_sample")
oc20_sample_directory = partial(sample_directory, "oc20_sample")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", params=SPLITS)
def stored(request, cache):
    """Frames of one split, and the same frames as fairchem reads them."""
    folder = oc20_sample_directory(request.param, cache)
    return load_oc20_sample(request.param), read_by_fairchem(folder)


def keys(split: str) -> set[tuple[str, int]]:
    return {(a.info["sid"], a.info["fid"]) for a in load_oc20_sample(split)}


def elements(split: str) -> set[str]:
    return {symbol for atoms in load_oc20_sample(split) for symbol in atoms.symbols}


def test_sample_files_are_small():
    assert (SAMPLE_FOLDER / "oc20_sample.npz").stat().st_size < 1_500_000
    assert (SAMPLE_FOLDER / "cualloy_sample.npz").stat().st_size < 500_000


def test_every_frame_belongs_to_exactly_one_split():
    counts = [len(load_oc20_sample(split)) for split in SPLITS]
    assert counts == [354, 88, 90]
    assert len(set.union(*map(keys, SPLITS))) == sum(counts)


def test_val_id_has_the_trajectories_of_train_and_val_ood_has_others():
    train, val_id, val_ood = ({sid for sid, _ in keys(split)} for split in SPLITS)
    assert val_id == train
    assert val_ood.isdisjoint(train)
    assert (len(train), len(val_ood)) == (10, 3)


def test_molybdenum_is_the_only_element_of_val_ood_that_train_lacks():
    assert elements("val_ood") - elements("train") == {"Mo"}


@pytest.mark.parametrize(
    ("name", "size", "largest"), [("oc20_sample", 45, 50.0), ("cualloy_sample", 67, 10.0)]
)
def test_forces_are_bounded_and_tags_tell_adsorbate_free_and_fixed_slab_apart(name, size, largest):
    for split in SAMPLES[name]:
        for atoms in load_sample(name, split):
            assert len(atoms) <= size
            assert np.linalg.norm(atoms.calc.results["forces"], axis=1).max() <= largest
            fixed = np.isin(np.arange(len(atoms)), atoms.constraints[0].index)
            np.testing.assert_array_equal(atoms.get_tags() == 0, fixed)
            assert set(atoms.get_tags()) == {0, 1, 2}


def test_forces_on_fixed_atoms_are_not_zeroed():
    atoms = load_oc20_sample("train")[0]
    fixed = atoms.constraints[0].index
    assert np.abs(atoms.get_forces(apply_constraint=False)[fixed]).max() > 0.01


def test_energies_are_referenced():
    # VASP energies of these systems are -17 to -350 eV, adsorption energies are not.
    for split in SPLITS:
        for atoms in load_oc20_sample(split):
            energy = atoms.get_potential_energy()
            assert abs(energy) < 10.0
            assert -360.0 < energy + atoms.info["ref_energy"] < -10.0


def test_fairchem_reads_the_stored_values_bit_for_bit(stored):
    frames, dataset = stored
    assert len(dataset) == len(frames)
    for i, atoms in enumerate(frames):
        data, results = dataset[i], atoms.calc.results
        wrapped = wrap_positions(atoms.positions, atoms.cell, atoms.pbc, eps=0)
        fixed = np.isin(np.arange(len(atoms)), atoms.constraints[0].index)
        np.testing.assert_array_equal(data.energy, np.float32([results["energy"]]))
        np.testing.assert_array_equal(data.forces, np.float32(results["forces"]))
        np.testing.assert_array_equal(data.pos, np.float32(wrapped))
        np.testing.assert_array_equal(data.cell[0], np.float32(atoms.cell.array))
        np.testing.assert_array_equal(data.pbc[0], atoms.pbc)
        np.testing.assert_array_equal(data.atomic_numbers, atoms.numbers)
        np.testing.assert_array_equal(data.tags, atoms.get_tags())
        np.testing.assert_array_equal(data.fixed, fixed)


def test_fairchem_sids_are_unique_strings_of_system_and_frame(stored):
    frames, dataset = stored
    sids = [dataset[i].sid[0] for i in range(len(dataset))]
    assert sids == [f"{a.info['sid']}-frame-{a.info['fid']}" for a in frames]
    assert len(set(sids)) == len(sids)


def test_metadata_natoms_are_integers_in_the_order_of_the_frames(stored):
    frames, dataset = stored
    natoms = dataset._metadata["natoms"]
    assert np.issubdtype(natoms.dtype, np.integer)
    assert natoms.tolist() == [len(atoms) for atoms in frames]


@pytest.mark.parametrize("function", [load_oc20_sample, oc20_sample_directory])
def test_unknown_split_lists_the_known_ones(function):
    with pytest.raises(ValueError, match=r"'test'.*train, val_id, val_ood"):
        function("test")


def test_the_molecule_sample_has_the_splits_of_the_paper(tmp_path):
    counts = {split: len(load_sample("rmd17_ethanol", split)) for split in SAMPLES["rmd17_ethanol"]}
    assert counts == {"train": 950, "val": 50, "test": 1000}
    atoms = load_sample("rmd17_ethanol", "val")[0]
    assert atoms.get_chemical_formula() == "C2H6O"
    assert not atoms.pbc.any()
    # rMD17 frames carry no net force.
    assert np.abs(atoms.calc.results["forces"].sum(axis=0)).max() < 1e-4
    energies = [a.calc.results["energy"] for a in load_sample("rmd17_ethanol", "train")]
    assert abs(np.mean(energies)) < 1e-6
    assert len(read_by_fairchem(sample_directory("rmd17_ethanol", "val", tmp_path))) == 50


def test_unknown_sample_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'qm9'.*oc20_sample, rmd17_ethanol"):
        load_sample("qm9", "train")


def runs(atoms_list) -> set[str]:
    return {atoms.info["sid"] for atoms in atoms_list}


def alloys(atoms_list) -> set[str]:
    return {name.split("_")[0] for name in runs(atoms_list)}


def test_no_run_of_copper_alloys_is_in_two_splits_and_val_ood_has_other_alloys():
    train, val, ood = (load_sample("cualloy_sample", s) for s in SAMPLES["cualloy_sample"])
    assert [len(train), len(val), len(ood)] == [229, 58, 63]
    assert [len(runs(part)) for part in (train, val, ood)] == [77, 20, 21]
    assert runs(train).isdisjoint(runs(val))
    assert alloys(val) == alloys(train)
    assert alloys(ood) == {"Cu3Sn1", "Cu3Zn1"}
    assert alloys(ood).isdisjoint(alloys(train))


@pytest.mark.parametrize("split", SAMPLES["cualloy_sample"])
def test_energies_of_copper_alloys_are_those_of_adsorption(split):
    for atoms in load_sample("cualloy_sample", split):
        adsorbate = atoms.info["sid"].split("_")[2]
        assert sorted(atoms[atoms.get_tags() == 2].symbols) == sorted(adsorbate)
        assert abs(atoms.get_potential_energy()) < 10.0
        assert atoms.info["ref_energy"] < -170.0
