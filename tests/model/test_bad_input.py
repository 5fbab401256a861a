"""What the model refuses, and that the message names the culprit and the way out."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from ase import Atoms
from fairchem.core.common import gp_utils
from helpers import GATE, batch_of, crystal, molecule, predict, slab, tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model(**GATE)


@pytest.mark.parametrize(("number", "symbol"), [(84, "Po"), (92, "U"), (0, "?")])
def test_an_unknown_element_is_named(model, number, symbol):
    numbers = [6, 8, number]
    atoms = Atoms(numbers=numbers, positions=[[0, 0, 0], [0, 0, 1.2], [0, 1.5, 0]])
    pattern = re.escape(f"atom 2 of structure 1 has atomic number {number} ({symbol})")
    with pytest.raises(ValueError, match=pattern):
        predict(model, molecule(), atoms)


def test_the_calculator_check_names_unknown_elements_and_accepts_known_ones(model):
    with pytest.raises(ValueError, match=r"knows atomic numbers 1\.\.83.* Po, U \(first: atom 1"):
        model.backbone.validate_atoms_data(Atoms("CuUPo"), "oc20")
    with pytest.raises(ValueError, match=r"contains 300 \(first: atom 1"):
        model.backbone.validate_atoms_data(Atoms([29, 300]), "oc20")
    model.backbone.validate_atoms_data(Atoms("CuBiH"), "oc20")


def without_atoms(data, structures):
    """The batch with so many structures, all empty, as a filter that keeps nothing leaves them."""
    for name in ("pos", "atomic_numbers", "batch", "fixed", "tags"):
        data[name] = data[name][:0]
    for name in ("cell", "pbc", "natoms", "charge", "spin", "nedges"):
        data[name] = data[name][:structures]
    data.natoms = torch.zeros_like(data.natoms)
    data.sid, data.dataset = data.sid[:structures], data.dataset[:structures]
    return data


def test_a_batch_without_structures_is_refused(model):
    with pytest.raises(ValueError, match="the batch holds no structures"):
        model(without_atoms(batch_of(molecule()), 0))


def test_a_structure_without_atoms_is_refused(model):
    with pytest.raises(ValueError, match="structure 0 of the batch has no atoms"):
        model(without_atoms(batch_of(molecule()), 1))
    data = batch_of(molecule(), molecule())
    data.natoms = torch.tensor([18, 0])
    data.batch[:] = 0
    with pytest.raises(ValueError, match="structure 1 of the batch has no atoms"):
        model(data)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_position_that_is_not_finite_is_named(model, value):
    atoms = molecule()
    atoms.positions[4, 1] = value
    with pytest.raises(ValueError, match=r"position of atom 4 of structure 1 is not finite"):
        predict(model, slab(), atoms)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_cell_that_is_not_finite_is_named(model, value):
    data = batch_of(slab(), crystal())
    data.cell[1, 2, 0] = value
    with pytest.raises(ValueError, match="cell of structure 1 is not finite"):
        model(data)


A, B = [4.0, 0, 0], [0.6, 3.7, 0]
NONE = np.zeros((3, 3))


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        (NONE, [1, 1, 1]),
        (NONE, [0, 0, 1]),
        (NONE, [1, 0, 0]),
        ([A, B, [-8.6, 3.7, 0]], [1, 1, 1]),
        ([A, [8.0, 0, 0], B], [1, 1, 0]),
    ],
    ids=str,
)
def test_periodic_directions_without_or_with_dependent_cell_vectors_are_refused(model, cell, pbc):
    data = batch_of(slab(), molecule())
    data.pbc[1] = torch.tensor(pbc).bool()
    data.cell[1] = torch.as_tensor(np.array(cell))
    with pytest.raises(ValueError, match=r"structure 1 is periodic .*pbc=False for a molecule"):
        model(data)


def test_a_structure_is_named_by_its_sid(model):
    data = batch_of(slab(), crystal())
    data.sid = ["first", "the-culprit"]
    data.pos[len(slab()), 0] = float("nan")
    with pytest.raises(ValueError, match=r"atom 0 of structure 1 \('the-culprit'\)"):
        model(data)


@pytest.mark.parametrize("distance", [0.0, 1e-6, 0.005])
def test_coincident_atoms_are_named(model, distance):
    atoms = molecule()
    atoms.positions[7] = atoms.positions[2] + [0, 0, distance]
    with pytest.raises(ValueError, match=r"atoms 2 and 7 of structure 1 coincide"):
        predict(model, slab(), atoms)


def test_the_same_positions_in_different_structures_are_fine(model):
    assert torch.isfinite(predict(model, molecule(), molecule(), molecule())["energy"]).all()


def test_graph_parallel_training_is_refused(model, monkeypatch):
    monkeypatch.setattr(gp_utils, "initialized", lambda: True)
    with pytest.raises(RuntimeError, match="group_size=1"):
        tiny_model(**GATE)
    with pytest.raises(RuntimeError, match="does not support graph parallelism"):
        model(batch_of(slab()))
