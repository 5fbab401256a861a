"""Published and fitted element references: values, gaps, wrong files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.data import atomic_numbers
from fairchem.core.modules.normalization.element_references import create_element_references

from eqv2_plugin.data.references import PUBLISHED, element_references, written_out_references
from eqv2_plugin.data.references.coefficients import (
    load_coefficients,
    reference_energy,
    save_coefficients,
)

# Entries, elements with a value, and two coefficients (eV) as the published files print them.
KNOWN = {
    "oc20_linear": (100, 56, {"H": -3.394, "Pt": -5.7738}),
    "oc22_linear": (100, 57, {"H": -3.434, "Pt": -4.0792}),
    "mptrj": (119, 89, {"H": -3.6791, "Ne": -0.0301}),
    "omat24": (119, 87, {"H": -2.9561, "Xe": 6.5396}),
}
ABSENT = {
    "oc20_linear": ("Li", "F", "Xe", "Gd"),
    "oc22_linear": ("B", "Tc", "I", "Xe", "La"),
    "mptrj": ("Po", "Cm"),
    "omat24": ("Ne", "Kr", "Po"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_references_have_their_elements_and_no_others(name):
    entries, elements, samples = KNOWN[name]
    values = element_references(name).element_references
    assert values.shape == (entries,)
    assert values.dtype == torch.float32
    assert int(torch.isfinite(values).sum()) == elements
    for symbol, energy in samples.items():
        assert float(values[atomic_numbers[symbol]]) == pytest.approx(energy, abs=1e-4)
    assert torch.isnan(values[[0, *(atomic_numbers[s] for s in ABSENT[name])]]).all()


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values_are_plausible(name):
    values = load_coefficients(name)
    known = values[np.isfinite(values)]
    assert np.abs(known).max() < 25.0
    # All four are fits of VASP energies with similar functionals.
    oxygen = values[8]
    assert -8.1 < oxygen < -4.8


def test_an_absent_element_spoils_its_structure_and_no_other():
    from helpers import batch_of, crystal, molecule

    batch = batch_of(molecule(), crystal())  # the crystal holds Cl, which OC22 lacks
    batch.atomic_numbers_full, batch.batch_full = batch.atomic_numbers, batch.batch
    left = element_references("oc22_linear").apply_refs(batch, torch.zeros(2))
    expected = -reference_energy(load_coefficients("oc22_linear"), molecule().numbers, "it")
    assert float(left[0]) == pytest.approx(expected, rel=1e-6)
    assert torch.isnan(left[1])


def test_a_written_file_is_read_back_exactly(tmp_path):
    coefficients = np.full(119, np.nan)
    # Zero, tiny and large are what they are in a file that says what its data held.
    coefficients[[1, 6, 8]] = 0.0, 1e-5, -2000.0
    counts = np.where(np.isnan(coefficients), 0, 5)
    path = tmp_path / "fit.npz"
    save_coefficients(path, coefficients, counts, counts, "energy")
    np.testing.assert_array_equal(load_coefficients(path), coefficients)
    ours = element_references(str(path)).element_references
    theirs = create_element_references(path).element_references
    torch.testing.assert_close(ours, theirs.float(), equal_nan=True)
    with np.load(path, allow_pickle=False) as file:
        assert str(file["property"]) == "energy"


def write_text(path):
    path.write_text("H -3.4")


WRONG = {
    "no npz file": (write_text, "no readable .npz"),
    "another key": (lambda p: np.savez(p, mean=1.0), "no array 'coeff' .it has mean"),
    "a matrix": (lambda p: np.savez(p, coeff=np.ones((2, 3))), r"shape \(2, 3\)"),
    "words": (lambda p: np.savez(p, coeff=np.array(["a", "b"])), "type <U1"),
    "nothing": (lambda p: np.savez(p, coeff=np.zeros(100)), "no plausible energy"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused(case, tmp_path):
    make, message = WRONG[case]
    path = tmp_path / "wrong.npz"
    make(path)
    with pytest.raises(ValueError, match=message) as error:
        element_references(path)
    assert "wrong.npz" in str(error.value)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'oc23'.*oc20_linear, oc22_linear, mptrj, omat24"):
        element_references("oc23")


def test_a_reference_energy_is_the_sum_over_the_atoms():
    coefficients = np.array([np.nan, -3.0, np.nan, -2.0])
    assert reference_energy(coefficients, np.array([1, 1, 3]), "it") == -8.0


@pytest.mark.parametrize(("number", "symbol"), [(2, "He"), (5, "B")])
def test_elements_without_reference_are_named(number, symbol):
    coefficients = np.array([np.nan, -3.0, np.nan, -2.0])
    with pytest.raises(ValueError, match=f"no value for {symbol}, which frame 3 holds"):
        reference_energy(coefficients, np.array([1, number]), "frame 3")


def test_values_of_a_config_are_the_references():
    values = written_out_references({"H": -3.5, "Og": 2}).element_references
    assert values.shape == (119,)
    assert (float(values[1]), float(values[118])) == (-3.5, 2.0)
    assert int(torch.isnan(values).sum()) == 117


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"Hx": 1.0}, "'Hx', which is no element"),
        ({"X": 1.0}, "'X', which is no element"),
        ({False: 1.0}, "False, which is no element"),
        ({"H": "1.0"}, "reference of H must be in eV, got '1.0'"),
        ({"H": float("nan")}, "reference of H must be in eV, got nan"),
        ({}, "no element references given"),
    ],
)
def test_wrong_values_of_a_config_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        written_out_references(values)


def test_no_file_has_a_reference_of_element_0(tmp_path):
    np.savez(tmp_path / "fit.npz", coeff=np.array([-5.0, -3.5]))
    assert np.isnan(load_coefficients(tmp_path / "fit.npz")[0])
