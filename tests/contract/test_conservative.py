"""Forces and stress as gradients of the energy, also where edges point along the polar axis."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from helpers import (
    BACKBONES,
    GATE,
    backbones,
    batch_of,
    conservative_model,
    crystal,
    flatten,
    largest,
    molecule,
    predict,
    relative_error,
    slab,
)

STEP = 2e-4


def along_the_axis() -> Atoms:
    """Edges exactly along +y and -y, and one close by."""
    positions = [[0, 0, 0], [0, 1.7, 0], [0, -2.1, 0], [1e-7, 3.3, 0], [1.2, 0.4, -0.9]]
    return Atoms("CuOCHN", positions=positions)


def derivative(function, step: float = STEP) -> float:
    """Central difference of fourth order at zero."""
    near = function(step) - function(-step)
    far = function(2 * step) - function(-2 * step)
    return (8 * near - far) / (12 * step)


def energy_of(model, atoms: Atoms) -> float:
    return float(predict(model, atoms)["energy"])


def displaced(atoms: Atoms, displacement: np.ndarray) -> Atoms:
    moved = atoms.copy()
    moved.positions += displacement
    return moved


@backbones
@pytest.mark.parametrize("make_structure", [slab, molecule, crystal, along_the_axis])
def test_forces_are_minus_the_derivative_of_the_energy(options, make_structure):
    model, atoms = conservative_model(stress=False, **options), make_structure()
    forces = predict(model, atoms)["forces"].numpy()
    rng = np.random.default_rng(0)
    for _ in range(3):
        direction = rng.normal(size=(len(atoms), 3))
        wanted = -derivative(lambda s, d=direction: energy_of(model, displaced(atoms, s * d)))
        assert abs((forces * direction).sum() - wanted) < 1e-6 * np.abs(forces * direction).sum()


@backbones
@pytest.mark.parametrize("make_structure", [slab, crystal])
def test_stress_is_the_derivative_of_the_energy_by_strain_per_volume(options, make_structure):
    model, atoms = conservative_model(**options), make_structure()
    # An atom in another cell than the rest: its image moves with the strain.
    atoms.positions[1] += np.array(atoms.cell)[0] - np.array(atoms.cell)[1]
    stress = predict(model, atoms)["stress"].view(3, 3).numpy()
    np.testing.assert_allclose(stress, stress.T, atol=1e-12 * np.abs(stress).max())
    for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0)):

        def strained_energy(strain: float, i: int = i, j: int = j) -> float:
            matrix = np.eye(3)
            matrix[i, j] += strain / 2
            matrix[j, i] += strain / 2
            strained = atoms.copy()
            strained.positions = atoms.positions @ matrix
            strained.set_cell(np.array(atoms.cell) @ matrix)
            return energy_of(model, strained)

        wanted = derivative(strained_energy) / atoms.get_volume()
        assert abs(stress[i, j] - wanted) < 1e-6 * np.abs(stress).max()


@pytest.mark.parametrize("make_structure", [crystal, molecule])
def test_energy_and_forces_are_the_same_with_and_without_stress(make_structure):
    with_stress, without = conservative_model(**GATE), conservative_model(stress=False, **GATE)
    ours, reference = predict(with_stress, make_structure()), predict(without, make_structure())
    assert "stress" not in reference
    assert relative_error(ours["forces"], reference["forces"]) < 1e-13
    assert torch.equal(ours["energy"], reference["energy"])


@pytest.mark.parametrize("kind", ["gate", "sep_s2_grid_mlp", "v1", "toy"])
def test_second_derivatives_at_the_axis_are_finite_and_equal_finite_differences(kind):
    model, atoms = conservative_model(stress=False, **BACKBONES[kind]), along_the_axis()
    # In training the forces can be differentiated again, for a loss that contains them.
    model.train()
    model.backbone.eval()
    data = batch_of(atoms)
    forces = flatten(model(data))["forces"]
    direction = np.random.default_rng(1).normal(size=(len(atoms), 3))
    projected = (forces * torch.from_numpy(direction)).sum()
    (second,) = torch.autograd.grad(projected, data["pos"], retain_graph=True)
    assert torch.isfinite(second).all()
    for axis in range(3):
        unit = np.zeros((len(atoms), 3))
        unit[1, axis] = 1.0

        def projection(step: float, unit: np.ndarray = unit) -> float:
            moved = predict(model, displaced(atoms, step * unit))["forces"].numpy()
            return float((moved * direction).sum())

        assert abs(float(second[1, axis]) - derivative(projection)) < 1e-6 * largest(second)
    forces.square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert sum(largest(gradient) > 0 for gradient in gradients) > 0.8 * len(gradients)


@pytest.mark.parametrize("pole", [1.0, -1.0])
@pytest.mark.parametrize("kind", ["gate", "s2", "sep_s2_grid_mlp", "v1"])
def test_energy_is_smooth_while_an_edge_passes_through_the_polar_axis(pole, kind):
    model = conservative_model(stress=False, **BACKBONES[kind])

    def energies(size: float) -> np.ndarray:
        """On 9 points of a path through the axis, from x = -4 ``size`` to 4 ``size``."""
        values = []
        for x in np.arange(-4, 5) * size:
            atoms = along_the_axis()
            atoms.positions[1] = [x, 1.7 * pole, 0.3 * x]
            values.append(energy_of(model, atoms))
        return np.array(values)

    coarse, fine = energies(1e-2), energies(1e-3)
    slope = np.abs(np.diff(coarse)).max() / 1e-2
    assert slope > 0
    # A jump would not shrink with the step, nor would a kink in the second differences.
    assert np.abs(np.diff(fine)).max() < 3 * slope * 1e-3
    assert np.abs(np.diff(fine, 2)).max() < 3 * np.abs(np.diff(coarse, 2)).max() * 1e-2 + 1e-14
    assert np.abs(np.diff(fine, 3)).max() < 3 * np.abs(np.diff(coarse, 3)).max() * 1e-3 + 1e-14
