"""Labels of another kind of energy are told from a model's errors, and commands say so."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.data import atomic_numbers

from eqv2_plugin.inference.energy_agreement import (
    Compared,
    compare,
    data_kind,
    kinds_note,
    magnitudes_note,
    spread_out,
)
from eqv2_plugin.inference.predictor import Prediction
from eqv2_plugin.models.metadata import EnergyKind, same_energies

GROUPS = Path(__file__).parents[2] / "src/eqv2_plugin/configs"
RNG = np.random.default_rng(7)
ELEMENTS = [atomic_numbers[s] for s in ("H", "C", "O", "Cu", "Pt")]
# Of total energies, eV per atom.
PER_ATOM = dict(zip(ELEMENTS, (-3.4, -7.3, -6.1, -3.7, -6.0), strict=True))


def structures(count: int = 16, atoms: int = 40) -> list[np.ndarray]:
    return [RNG.choice(ELEMENTS, atoms, p=[0.05, 0.05, 0.1, 0.5, 0.3]) for _ in range(count)]


def apart(numbers: list[np.ndarray], difference) -> list[Compared]:
    return [
        Compared(n, float(e), float(e - difference(n))) for n in numbers for e in RNG.normal(size=1)
    ]


@pytest.mark.parametrize("error", [0.02, 0.3, 2.3])
def test_errors_of_a_model_pass_however_badly_it_was_trained(error):
    for _ in range(20):
        assert magnitudes_note(apart(structures(), lambda n: RNG.normal(scale=error)), "x") == ""


def test_frames_of_one_system_may_share_one_error():
    (numbers,) = structures(1)
    found = apart([numbers] * 16, lambda n: 1.8 + RNG.normal(scale=0.01))
    assert magnitudes_note(found, "x") == ""


def test_total_energies_against_adsorption_energies_are_told():
    def total(numbers):
        return sum(PER_ATOM[z] for z in numbers) + RNG.normal(scale=0.3)

    note = magnitudes_note(apart(structures(), total), "val_id")
    assert "labels of val_id by" in note
    assert "eV per atom; median of 16 structures" in note
    assert "one energy per element accounts for" in note
    assert "different kinds of energy" in note


def test_other_references_per_element_are_told_where_they_are_small():
    small = dict(zip(ELEMENTS, (-0.3, 0.2, -0.2, 0.05, 0.04), strict=True))
    found = apart(structures(), lambda n: sum(small[z] for z in n) + RNG.normal(scale=0.02))
    assert "one energy per element accounts for" in magnitudes_note(found, "x")


@pytest.mark.parametrize("shift", [1.5, -14.0])
def test_one_constant_is_told(shift):
    found = apart(structures(8), lambda n: shift + RNG.normal(scale=0.03))
    note = magnitudes_note(found, "x")
    assert "by nearly the same" in note
    assert f"{shift:+.2g}"[:3] in note


def test_a_single_structure_and_a_small_molecule_are_enough():
    hydrogen = np.array([1, 1])
    assert "1 structure)" in magnitudes_note([Compared(hydrogen, -0.1, -6.8)], "x")
    assert magnitudes_note([Compared(hydrogen, -6.7, -6.8)], "x") == ""


def test_nothing_labelled_says_nothing():
    assert magnitudes_note([], "x") == ""


@pytest.mark.parametrize(("model", "data"), itertools.product(EnergyKind, EnergyKind))
def test_kinds_are_compared_where_both_are_known(model, data):
    note = kinds_note(model, data, "val_id")
    assert bool(note) is (same_energies(model, data) is False)
    if note:
        assert note.startswith("val_id holds")


def test_structures_that_cannot_be_compared_are_left_to_the_run():
    def predict(batch):
        if batch[0].numbers[0] == 3:
            raise ValueError("the model does not know Li")
        return [Prediction(-1.0, np.zeros((1, 3)))]

    labelled = [
        (Atoms("Li"), 1.0),
        (Atoms("H"), None),
        (Atoms("H"), float("nan")),
        (Atoms("O"), 2.0),
    ]
    (found,) = compare(predict, labelled)
    assert (found.numbers.tolist(), found.predicted, found.labelled) == ([8], -1.0, 2.0)


@pytest.mark.parametrize(("count", "expected"), [(0, []), (1, [0]), (3, [0, 1, 2]), (100, None)])
def test_what_is_compared_lies_all_over_the_data(count, expected):
    found = spread_out(count)
    assert found == (expected if expected is not None else found)
    assert len(found) == min(count, 16)
    assert not found or (found[0], found[-1]) == (0, count - 1)


def test_a_wrong_kind_in_a_config_is_refused():
    assert data_kind({}) is EnergyKind.UNKNOWN
    with pytest.raises(ValueError, match=r"energy_kind must be one of adsorption, .*not 'totl'"):
        data_kind({"energy_kind": "totl"})


@pytest.mark.parametrize(
    "path",
    [p for group in ("test_data", "is2re_data") for p in sorted((GROUPS / group).glob("*.yaml"))],
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_every_group_of_data_states_its_kind(path):
    kind = data_kind(yaml.safe_load(path.read_text()))
    wants_totals = path.stem in ("oc22_test", "oc22_val")
    assert kind is (EnergyKind.TOTAL if wants_totals else EnergyKind.ADSORPTION)


@pytest.mark.parametrize(
    ("factor", "meant"),
    [(23.06, "in kcal/mol, not in eV"), (1 / 27.2, "in Hartree"), (-1.0, "of the opposite sign")],
)
def test_units_of_total_energies_are_named_though_frames_differ_little(factor, meant):
    """As of one molecule, of whose energies a model has learned the mean alone."""
    numbers = [np.array([6, 6, 8, *[1] * 6])] * 16
    found = [Compared(n, -4209.6, factor * (-4209.6 + RNG.normal(scale=0.2))) for n in numbers]
    assert meant in magnitudes_note(found, "x")


def test_total_energies_per_atom_are_named():
    found = [Compared(n, -3.0 * len(n), -3.05 + RNG.normal(scale=0.05)) for n in structures()]
    assert "in eV per atom" in magnitudes_note(found, "x")
