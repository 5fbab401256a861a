"""What relaxed placements mean: references of the energy, and what a surface is compared with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from adsorbml_inputs import candidate, write_slab_input
from ase import Atoms

from eqv2_plugin.inference.relaxation import Relaxed
from eqv2_plugin.tasks.adsorbml.analysis import analyse
from eqv2_plugin.tasks.adsorbml.input import read_input


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    return read_input(write_slab_input(tmp_path_factory.mktemp("in") / "in.pkl", ["*O"]))[0]


def relaxed(initial: Atoms, energy: float, lifted: int | None = None, by: float = 4.0) -> Relaxed:
    """As it was, but for one atom."""
    atoms = initial.copy()
    if lifted is not None:
        atoms.positions[lifted, 2] += by
    count = len(atoms)
    return Relaxed(
        "x", initial, atoms, energy, np.zeros((count, 3)), 0, True, np.ones(1), np.ones(1)
    )


def test_total_energies_are_referenced_to_slab_and_gas(system):
    start = candidate("p").initial
    slab = relaxed(system.initial, -100.0)
    found = analyse(system, [("p", start)], {"p": relaxed(start, -109.0)}, slab, False)
    # O in the gas phase: -7.204 eV.
    assert found.candidates[0].energy == pytest.approx(-109.0 + 100.0 + 7.204)
    assert found.slab_energy == -100.0
    found = analyse(system, [("p", start)], {"p": relaxed(start, -1.5)}, None, True)
    assert found.candidates[0].energy == -1.5
    assert found.slab_energy is None


@pytest.mark.parametrize("own_energies", [True, False])
def test_a_surface_is_compared_with_the_slab_of_its_energies(system, own_energies):
    """With total energies that is the slab that the model relaxed, else the input's."""
    start = candidate("p").initial
    torn = relaxed(system.initial, -100.0, lifted=17)
    found = analyse(system, [("p", start)], {"p": relaxed(start, 0.0)}, torn, own_energies)
    expected = () if own_energies else ("surface_changed",)
    assert found.candidates[0].anomalies == expected


@pytest.mark.parametrize(
    ("lifted", "by", "anomaly"),
    [
        (17, 4.0, "surface_changed"),
        (-1, 4.0, "adsorbate_desorbed"),
        (-1, -2.5, "intercalated"),
        (-1, 1e5, "atoms_left"),
    ],
)
def test_anomalies_are_found(system, lifted, by, anomaly):
    start = candidate("p").initial
    found = analyse(system, [("p", start)], {"p": relaxed(start, 0.0, lifted, by)}, None, True)
    assert any(anomaly in name for name in found.candidates[0].anomalies)
    assert found.ranked() == []


def test_overlapping_atoms_are_an_anomaly_and_failures_have_none(system):
    start = candidate("p").initial
    odd = relaxed(start, -9.0)
    odd.atoms.positions[-1] = odd.atoms.positions[17] + [0, 0, 0.05]
    found = analyse(system, [("p", start)], {"p": odd}, None, True)
    assert "atoms_too_near" in found.candidates[0].anomalies
    assert found.ranked() == []
    failed = replace(odd, error="the prediction is not finite")
    assert analyse(system, [("p", start)], {"p": failed}, None, True).candidates[0].anomalies == ()
