"""Placements are fairchem-data-oc's, and follow from seed, system and mode alone."""

from __future__ import annotations

import numpy as np
import pytest
from adsorbml_inputs import RANDOM, write_slab_input

from eqv2_plugin.tasks.adsorbml.input import read_input
from eqv2_plugin.tasks.adsorbml.placements import MODES, Protocol, place


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    return read_input(write_slab_input(tmp_path_factory.mktemp("in") / "in.pkl", ["*CO"]))[0]


def positions(system, numbers, seed=0, name=None):
    placed = place(name or system.id, system.initial, system.adsorbates, numbers, seed)
    return {key: atoms.positions for key, atoms in placed}


def test_each_mode_places_as_many_as_asked_for(system):
    numbers = {"heuristic": 2, "random": 3, RANDOM: 1}
    placed = place(system.id, system.initial, system.adsorbates, numbers, 0)
    assert [name.rsplit("-", 1)[0] for name, _ in placed] == ["heuristic"] * 2 + ["random"] * 3 + [
        RANDOM
    ]
    for _, atoms in placed:
        assert atoms.get_tags().tolist()[-2:] == [2, 2]
        assert atoms.pbc.all()
        assert len(atoms.constraints) == 1
        height = atoms.positions[-2:, 2].min() - atoms.positions[:-2, 2].max()
        assert 0.5 < height < 3.0


def test_the_same_seed_gives_the_same_placements(system):
    np.random.seed(1)
    first = positions(system, {RANDOM: 2})
    np.random.seed(2)
    second = positions(system, {"random": 1, RANDOM: 2})
    for name, found in first.items():
        np.testing.assert_array_equal(found, second[name])


@pytest.mark.parametrize("changes", [{"seed": 1}, {"name": "another"}])
def test_another_seed_or_system_gives_other_placements(system, changes):
    first, second = positions(system, {RANDOM: 1}), positions(system, {RANDOM: 1}, **changes)
    name = f"{RANDOM}-0000"
    assert np.abs(first[name] - second[name]).max() > 0.1


def test_the_callers_random_numbers_are_left_alone(system):
    np.random.seed(7)
    expected = np.random.rand()
    np.random.seed(7)
    positions(system, {RANDOM: 1})
    assert np.random.rand() == expected


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"everywhere": 3}, f"no placement mode 'everywhere'; choose from {', '.join(MODES)}"),
        ({"random": -1}, "whole number, got -1"),
        ({"random": 0.5}, "whole number, got 0.5"),
        ({"random": 0}, "no placements"),
    ],
)
def test_bad_numbers_are_refused(numbers, message):
    with pytest.raises(ValueError, match=message):
        Protocol(numbers)
