"""Structures at the edge of what a model meets: no neighbours, no cell, few periodic axes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from ase import Atoms
from helpers import (
    BACKBONES,
    DIRECT_HEADS,
    STRESS,
    WITHOUT_STRESS_HEAD,
    backbones,
    batch_of,
    conservative_model,
    crystal,
    largest,
    molecule,
    periodicities,
    predict,
    relative_error,
    slab,
    tiny_model,
)

WITH_STRESS = {**DIRECT_HEADS, "stress": STRESS}
ATOM = Atoms("Cu", positions=[[0.3, 0.2, 0.1]])
ATOM_IN_BOX = Atoms("Cu", positions=[[0.3, 0.2, 0.1]], cell=[20, 20, 20], pbc=True)
FAR_APART = Atoms("CuO", positions=[[0, 0, 0], [0, 0, 30.0]])
EDGELESS = {"atom": ATOM, "atom_in_box": ATOM_IN_BOX, "far_apart": FAR_APART}
edgeless = pytest.mark.parametrize("atoms", EDGELESS.values(), ids=EDGELESS)


@pytest.fixture(scope="module", params=["gate", "v1", "toy"])
def model(request):
    return tiny_model(**BACKBONES[request.param])


def assert_finite(outputs: dict[str, torch.Tensor]) -> None:
    for name, value in outputs.items():
        assert torch.isfinite(value).all(), name


@edgeless
@backbones
def test_a_structure_without_any_edge_has_a_finite_energy_and_no_forces(atoms, options):
    heads = DIRECT_HEADS if options["backbone"] in WITHOUT_STRESS_HEAD else WITH_STRESS
    outputs = predict(tiny_model(heads, **options), atoms)
    stress = outputs.pop("stress", None)
    assert stress is None or torch.isfinite(stress).all() == bool(atoms.pbc.all())
    assert_finite(outputs)
    assert largest(outputs["energy"]) > 0
    assert not outputs["forces"].any()


@edgeless
def test_a_structure_without_any_edge_can_be_trained_on(model, atoms):
    model.train().zero_grad()
    outputs = model(batch_of(atoms))
    (outputs["energy"].sum() + outputs["forces"].square().sum()).backward()
    assert largest(model.backbone.atom_embedding.weight.grad) > 0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    model.eval()


@edgeless
@pytest.mark.parametrize("kind", ["gate", "v1", "toy"])
def test_a_structure_without_any_edge_has_conservative_forces_of_zero(atoms, kind):
    outputs = predict(conservative_model(stress=False, **BACKBONES[kind]), atoms)
    assert_finite(outputs)
    assert not outputs["forces"].any()


@edgeless
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_structure_without_edges_in_a_batch_changes_nothing_for_the_others(
    model, atoms, position
):
    batch = [slab(), molecule()]
    batch.insert(position, atoms)
    outputs = predict(model, *batch)
    assert_finite(outputs)
    sizes = [len(structure) for structure in batch]
    for i, (structure, forces) in enumerate(
        zip(batch, outputs["forces"].split(sizes), strict=True)
    ):
        if structure is atoms:
            assert not forces.any()
            continue
        alone = predict(model, structure)
        assert relative_error(outputs["energy"][i : i + 1], alone["energy"]) < 1e-12
        assert relative_error(forces, alone["forces"]) < 1e-12


def test_atoms_beyond_the_cutoff_do_not_feel_each_other(model):
    pair = predict(model, Atoms("CuO", positions=[[0, 0, 0], [0, 0, 4.01]]))
    closer = predict(model, Atoms("CuO", positions=[[0, 0, 0], [0, 0, 3.99]]))
    assert not pair["forces"].any()
    assert largest(closer["forces"]) > 0


def test_the_energy_of_separate_parts_is_the_sum_of_their_energies(model):
    first, second = molecule(0), molecule(5)
    second.positions += [40.0, 0, 0]
    both = predict(model, first + second)["energy"]
    parts = predict(model, first, second)["energy"].sum()
    assert relative_error(both, parts) < 1e-12


ANY_CELL = [[1, 1, 1], [30, 30, 30], [[5, 1, 0], [0, 6, 2], [1, 0, 7]], [0, 0, 9]]
BOXES = [(cell, False) for cell in ANY_CELL] + [([30, 31, 32], True)]


@pytest.mark.parametrize(("cell", "pbc"), BOXES, ids=str)
def test_a_molecule_depends_neither_on_its_cell_nor_on_images_out_of_reach(model, cell, pbc):
    atoms = molecule()
    atoms.set_cell(cell)
    atoms.pbc = pbc
    outputs, reference = predict(model, atoms), predict(model, molecule())
    for name, value in reference.items():
        assert relative_error(outputs[name], value) < 1e-12


@periodicities
def test_periodic_directions_equal_explicit_copies(model, pbc):
    """The atoms in the middle of enough copies feel what the periodic ones feel."""
    atoms = crystal()
    atoms.pbc = pbc
    periodic = predict(model, atoms)["forces"]
    # Messages of two blocks and the force head travel three times the cutoff.
    shifts = [range(-4, 5) if periodic_axis else [0] for periodic_axis in pbc]
    middle, copies = None, []
    for i, shift in enumerate(itertools.product(*shifts)):
        if shift == (0, 0, 0):
            middle = i * len(atoms)
        copies.append(atoms.positions + np.array(shift) @ np.array(atoms.cell))
    cluster = Atoms(atoms.get_chemical_symbols() * len(copies), positions=np.concatenate(copies))
    forces = predict(model, cluster)["forces"][middle : middle + len(atoms)]
    assert largest(periodic) > 0
    assert relative_error(forces, periodic) < 1e-10


@periodicities
def test_atoms_outside_the_cell_give_the_results_of_wrapped_ones(model, pbc):
    atoms = crystal()
    atoms.pbc = pbc
    moved = atoms.copy()
    jumps = np.array([[3, -2, 1], [0, 0, 0], [-5, 4, 7], [1, 1, -1]]) * np.array(pbc)
    moved.positions += jumps @ np.array(atoms.cell)
    outputs, reference = predict(model, moved), predict(model, atoms)
    for name, value in reference.items():
        assert relative_error(outputs[name], value) < 1e-10


@pytest.mark.parametrize("size", [1, 2])
def test_a_cell_smaller_than_the_cutoff_equals_its_supercell(model, size):
    """One or two atoms whose neighbours are mostly their own images."""
    atoms = Atoms("CuNi"[: 2 * size], positions=[[0.1, 0, 0.2], [0, 1.3, 1.1]][:size], pbc=True)
    atoms.set_cell([[2.4, 0.1, 0.0], [0.3, 2.7, 0.2], [0.1, -0.4, 2.5]])
    outputs, reference = predict(model, atoms.repeat((2, 1, 2))), predict(model, atoms)
    assert relative_error(outputs["energy"], 4 * reference["energy"]) < 1e-12
    forces = reference["forces"].repeat(4, 1)
    assert largest(outputs["forces"] - forces) < 1e-10
