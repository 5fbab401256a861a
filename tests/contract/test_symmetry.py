"""Symmetries of every backbone's models, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import (
    ACTIVATIONS,
    BACKBONES,
    DIRECT_HEADS,
    EXACT,
    GATE,
    TOY,
    boxed_molecule,
    conservative_model,
    crystal,
    largest,
    predict,
    random_rotation,
    relative_error,
    rotated,
    slab,
    tiny_model,
)

from eqv2_plugin.backbones.registered import registered_backbones

STRUCTURES = {"slab": slab, "molecule": boxed_molecule, "crystal": crystal}
MODELS = {
    f"{kind} {name}": (make, options)
    for name, options in EXACT.items()
    for kind, make in (("direct", tiny_model), ("conservative", conservative_model))
}
TOLERANCE = 1e-8
# Largest relative error by L, M and R of the sphere grids; measured, times 3 to 10. It comes from
# the grids alone and falls exponentially with R.
S2_BOUNDS = {(2, 2, 18): 1e-3, (4, 2, 18): 5e-2, (2, 2, 40): 1e-8, (4, 2, 60): 1e-6}

structures = pytest.mark.parametrize("make_structure", STRUCTURES.values(), ids=STRUCTURES)


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    make, options = MODELS[request.param]
    return make(**options)


def test_every_registered_backbone_is_under_contract():
    under_contract = {options["backbone"] for options in [*EXACT.values(), *BACKBONES.values()]}
    assert set(registered_backbones()) <= under_contract


def rotated_outputs(outputs: dict[str, torch.Tensor], rotation: torch.Tensor) -> dict:
    """What the outputs of the rotated structure have to be."""
    wanted = dict(outputs)
    wanted["forces"] = outputs["forces"] @ rotation.T
    if "stress" in outputs:
        stress = outputs["stress"].view(-1, 3, 3)
        wanted["stress"] = (rotation @ stress @ rotation.T).flatten(1)
    return wanted


def assert_close(ours: dict, reference: dict, tolerance: float = TOLERANCE) -> None:
    assert ours.keys() == reference.keys()
    for name, value in reference.items():
        assert largest(value) > 0, name
        assert relative_error(ours[name], value) <= tolerance, name


@structures
@pytest.mark.parametrize("seed", [0, 1])
def test_a_rotation_of_positions_and_cell_rotates_the_outputs(model, make_structure, seed):
    atoms, rotation = make_structure(), random_rotation(seed)
    outputs = predict(model, rotated(atoms, rotation))
    assert_close(outputs, rotated_outputs(predict(model, atoms), rotation))


@structures
@pytest.mark.parametrize("make", [tiny_model, conservative_model])
def test_a_reflection_of_the_toy_reflects_the_outputs(make, make_structure):
    """Only backbones without SO(2) layers promise it."""
    model, atoms, mirror = make(backbone=TOY), make_structure(), -random_rotation(2)
    outputs = predict(model, rotated(atoms, mirror))
    assert_close(outputs, rotated_outputs(predict(model, atoms), mirror))


@structures
def test_a_translation_changes_nothing(model, make_structure):
    atoms = make_structure()
    moved = atoms.copy()
    moved.positions += [5.3, -2.9, 11.1]
    assert_close(predict(model, moved), predict(model, atoms))


@structures
def test_another_order_of_the_atoms_reorders_the_forces(model, make_structure):
    atoms = make_structure()
    order = np.random.default_rng(0).permutation(len(atoms))
    reference = predict(model, atoms)
    reference["forces"] = reference["forces"][order]
    assert_close(predict(model, atoms[order]), reference)


def test_a_batch_equals_its_structures_one_by_one(model):
    atoms = [slab(), crystal(), boxed_molecule(), crystal(7)]
    alone = [predict(model, structure) for structure in atoms]
    together = predict(model, *atoms)
    wanted = {name: torch.cat([outputs[name] for outputs in alone]) for name in together}
    assert_close(together, wanted)


@pytest.mark.parametrize("repeats", [(2, 1, 1), (1, 2, 2)])
@pytest.mark.parametrize("make_structure", [slab, crystal])
def test_a_supercell_has_the_energy_of_its_copies(model, make_structure, repeats):
    """The energy is the sum over atoms divided by a constant, ``avg_num_nodes``."""
    atoms, copies = make_structure(), int(np.prod(repeats))
    wanted = predict(model, atoms)
    wanted["energy"] = copies * wanted["energy"]
    wanted["forces"] = wanted["forces"].repeat(copies, 1)
    assert_close(predict(model, atoms.repeat(repeats)), wanted)


@pytest.mark.parametrize("avg_num_nodes", [1.0, 37.5])
def test_energy_scales_with_the_average_number_of_atoms_only(avg_num_nodes):
    reference = predict(tiny_model(avg_num_nodes=1.0, **GATE), slab())
    outputs = predict(tiny_model(avg_num_nodes=avg_num_nodes, **GATE), slab())
    assert relative_error(outputs["energy"] * avg_num_nodes, reference["energy"]) < 1e-14
    assert torch.equal(outputs["forces"], reference["forces"])


def test_the_mean_of_an_intensive_output_is_that_of_the_supercell():
    heads = {"gap": {**DIRECT_HEADS["energy"], "output_name": "gap", "reduce": "mean"}}
    model = tiny_model(heads, **GATE)
    wanted = predict(model, crystal())["gap"]
    assert relative_error(predict(model, crystal().repeat((1, 2, 1)))["gap"], wanted) < TOLERANCE


@pytest.mark.parametrize("kind", [kind for kind in ACTIVATIONS if kind != "gate"])
@pytest.mark.parametrize("degrees_and_resolution", S2_BOUNDS, ids=str)
def test_with_sphere_grids_a_rotation_costs_less_than_the_bound(kind, degrees_and_resolution):
    lmax, mmax, resolution = degrees_and_resolution
    options = {**ACTIVATIONS[kind], "lmax": lmax, "mmax": mmax, "grid_resolution": resolution}
    model = tiny_model(**options)
    errors = {"energy": 0.0, "forces": 0.0}
    for make_structure in STRUCTURES.values():
        atoms, rotation = make_structure(), random_rotation(3)
        wanted = rotated_outputs(predict(model, atoms), rotation)
        outputs = predict(model, rotated(atoms, rotation))
        for name in errors:
            errors[name] = max(errors[name], relative_error(outputs[name], wanted[name]))
    print(f"{kind} L={lmax} M={mmax} R={resolution}: {errors}")
    assert max(errors.values()) < S2_BOUNDS[degrees_and_resolution]
