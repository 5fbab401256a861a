"""Fits through the readers: references, normalisers, and data they cannot use."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from inspection_inputs import molecule_frames, oc20_frames, relabelled, write_dataset

from eqv2_plugin.data.inspection.frames import open_dataset
from eqv2_plugin.data.references.coefficients import load_coefficients
from eqv2_plugin.data.references.fitting import fit_normalizers, fit_references
from eqv2_plugin.data.sample import load_sample

TRUE = {"H": -3.5, "C": -8.0, "O": -5.0, "Cu": -4.0}


def random_molecules(count: int, seed: int = 0) -> list[Atoms]:
    """Random compositions whose energies are sums over elements."""
    random = np.random.default_rng(seed)
    frames = []
    for index in range(count):
        symbols = random.choice(list(TRUE), random.integers(1, 12))
        atoms = Atoms(symbols, positions=random.normal(0, 4, (len(symbols), 3)))
        atoms.info = {"sid": f"m{index}", "y_relaxed": 2.0 * len(atoms)}
        energy = sum(TRUE[s] for s in symbols)
        frames.append(relabelled(atoms, energy, random.normal(0, 1, (len(atoms), 3))))
    return frames


@pytest.fixture
def molecules(tmp_path):
    parts = [write_dataset(tmp_path / n, random_molecules(30, seed)) for seed, n in enumerate("ab")]
    return [open_dataset(part) for part in parts]


@pytest.mark.parametrize("batch", [7, 1024])
def test_references_over_several_folders_are_recovered(molecules, batch, monkeypatch):
    monkeypatch.setattr("eqv2_plugin.data.references.fitting._BATCH", batch)
    fitted = fit_references(molecules)
    assert fitted.frames == 60
    for symbol, energy in TRUE.items():
        z = Atoms(symbol).numbers[0]
        assert fitted.fit.coefficients[z] == pytest.approx(energy, abs=1e-10)
    assert fitted.after.mae < 1e-10
    assert fitted.after.rmse < 1e-10
    energies = np.array([dataset[i].energy for dataset in molecules for i in range(30)])
    assert fitted.before.rmse == pytest.approx(energies.std(), rel=1e-12)
    assert fitted.before.mae == pytest.approx(np.abs(energies - energies.mean()).mean(), rel=1e-12)


def test_residuals_are_those_of_the_coefficients(tmp_path, monkeypatch):
    monkeypatch.setattr("eqv2_plugin.data.references.fitting._BATCH", 8)
    frames = random_molecules(50)
    noise = np.random.default_rng(3).normal(0, 0.5, 50)
    for index, atoms in enumerate(frames):
        frames[index] = relabelled(atoms, atoms.calc.results["energy"] + noise[index])
    fitted = fit_references([open_dataset(write_dataset(tmp_path / "data", frames))])
    left = [
        atoms.calc.results["energy"] - fitted.fit.coefficients[atoms.numbers].sum()
        for atoms in frames
    ]
    assert fitted.after.mae == pytest.approx(np.abs(left).mean(), rel=1e-10)
    assert fitted.after.rmse == pytest.approx(np.sqrt(np.mean(np.square(left))), rel=1e-10)


def test_another_stored_number_can_be_fitted(molecules):
    fitted = fit_references(molecules, label="y_relaxed")
    known = fitted.fit.coefficients[fitted.fit.atoms > 0]
    np.testing.assert_allclose(known, 2.0, rtol=1e-10)


@pytest.mark.parametrize("workers", [0, 2])
def test_normalizers_equal_numpy_on_all_values(workers):
    dataset = open_dataset("embedded:oc20_sample/train")
    frames = load_sample("oc20_sample", "train")
    energies = np.array([atoms.calc.results["energy"] for atoms in frames])
    free = [
        np.delete(atoms.calc.results["forces"], atoms.constraints[0].index, axis=0)
        for atoms in frames
    ]
    forces = np.concatenate(free)
    fitted = fit_normalizers([dataset], workers=workers)
    assert fitted.energy_mean == pytest.approx(energies.mean(), rel=1e-12)
    assert fitted.energy_rmsd == pytest.approx(energies.std(), rel=1e-12)
    assert fitted.force_rms == pytest.approx(np.sqrt((forces**2).mean()), rel=1e-12)
    assert (fitted.frames, fitted.free_atoms) == (354, len(forces))


def test_references_are_subtracted_first(molecules):
    coefficients = load_coefficients("omat24")
    energies = [
        dataset[i].energy - coefficients[dataset[i].numbers].sum()
        for dataset in molecules
        for i in range(30)
    ]
    fitted = fit_normalizers(molecules, coefficients)
    assert fitted.energy_mean == pytest.approx(np.mean(energies), rel=1e-12)
    assert fitted.energy_rmsd == pytest.approx(np.std(energies), rel=1e-12)


def test_the_normaliser_of_the_md17_recipe_is_found_again():
    fitted = fit_normalizers([open_dataset("embedded:rmd17_ethanol/train")])
    assert fitted.energy_mean == pytest.approx(0.0, abs=1e-6)
    assert fitted.energy_rmsd == pytest.approx(0.178472, abs=5e-7)


def unlabelled(frames, **labels):
    return [*frames[:2], relabelled(frames[2], **labels)]


FORCES = np.zeros((9, 3))
REFUSED = {
    "energy missing": ({"forces": FORCES}, "no label 'energy' .*ref_energy"),
    "energy not finite": ({"energy": np.nan, "forces": FORCES}, "energy nan"),
    "forces missing": ({"energy": 1.0}, "has no forces"),
    "forces not finite": ({"energy": 1.0, "forces": FORCES + np.inf}, "forces that are not finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_frames_without_usable_labels_are_named(case, tmp_path):
    labels, message = REFUSED[case]
    frames = unlabelled(molecule_frames(3), **labels)
    name = f"ethanol, frame {frames[2].info['fid']}"
    dataset = open_dataset(write_dataset(tmp_path / "data", frames))
    with pytest.raises(ValueError, match=f"{name} has.*|.*{message}") as error:
        fit_normalizers([dataset])
    assert name in str(error.value)
    if "energy" in case:
        with pytest.raises(ValueError, match=message):
            fit_references([dataset])


def test_elements_without_reference_are_named(tmp_path):
    dataset = open_dataset(write_dataset(tmp_path / "data", oc20_frames(2)))
    coefficients = load_coefficients("oc20_linear")
    coefficients[1] = np.nan
    with pytest.raises(ValueError, match="no value for H, which random"):
        fit_normalizers([dataset], coefficients)


@pytest.mark.parametrize(
    ("energy", "forces", "message"),
    [(1.0, FORCES + 1, "all 3 energies are 1 eV"), (None, FORCES, "no force on a free atom")],
)
def test_labels_that_do_not_vary_give_no_scale(energy, forces, message, tmp_path):
    frames = [
        relabelled(a, a.calc.results["energy"] if energy is None else energy, forces)
        for a in molecule_frames(3)
    ]
    dataset = open_dataset(write_dataset(tmp_path / "data", frames))
    with pytest.raises(ValueError, match=message):
        fit_normalizers([dataset])


def test_an_atomic_number_that_no_element_has_is_named(tmp_path):
    frames = molecule_frames(1)
    frames[0].numbers[0] = 0
    dataset = open_dataset(write_dataset(tmp_path / "data", [relabelled(frames[0], energy=1.0)]))
    with pytest.raises(ValueError, match="atomic number 0"):
        fit_references([dataset])
