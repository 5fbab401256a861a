"""Stress is there where there is a volume; elsewhere nothing of it reaches a cell or a loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from helpers import (
    DIRECT_HEADS,
    GATE,
    STRESS,
    batch_of,
    conservative_model,
    crystal,
    flatten,
    molecule,
    relative_error,
    slab,
    tiny_model,
)

from eqv2_plugin.heads.conservative import forces_and_stress
from eqv2_plugin.heads.stress import where_volume

JOINED = {
    "module": "eqv2_plugin.heads.joined_stress.JoinedStressHead",
    "isotropic": {"mean": 0.1, "rmsd": 2.0},
    "anisotropic": {"mean": 0.0, "rmsd": 3.0},
}
MODELS = {
    "conservative": lambda **options: conservative_model(**GATE, **options),
    "full": lambda **options: tiny_model({**DIRECT_HEADS, "stress": STRESS}, **GATE, **options),
    "decomposed": lambda: tiny_model(
        {**DIRECT_HEADS, "stress": {**STRESS, "decompose": True}}, **GATE
    ),
    "joined": lambda: tiny_model({**DIRECT_HEADS, "stress": JOINED}, **GATE),
}
WITHOUT = [[1, 1, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]]


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]()


def stresses(outputs: dict) -> list[torch.Tensor]:
    """The outputs that are a stress, or a part of one."""
    found = []
    for name, value in outputs.items():
        if isinstance(value, dict):
            found += stresses({f"{name}_{key}": part for key, part in value.items()})
        elif "stress" in name:
            found.append(value)
    return found


def flat_predict(model, *structures: Atoms) -> dict[str, torch.Tensor]:
    found = {}
    for name, value in model(batch_of(*structures)).items():
        parts = value if isinstance(value, dict) else {name: value}
        found.update({key: part.detach() for key, part in parts.items()})
    return found


@pytest.mark.parametrize("pbc", WITHOUT, ids=str)
@pytest.mark.parametrize("with_vectors", [True, False])
def test_it_is_nan_without_three_periodic_directions(model, pbc, with_vectors):
    atoms = crystal()
    atoms.pbc = pbc
    if not with_vectors:
        atoms.set_cell(np.array(atoms.cell) * np.array(pbc)[:, None])
    outputs = flat_predict(model, crystal(), atoms, slab())
    found = stresses(outputs)
    assert found
    for value in found:
        assert value[1].isnan().all()
        assert value[[0, 2]].isfinite().all()
    alone = flat_predict(model, slab())
    for name, value in alone.items():
        rest = outputs[name][-len(value) :]
        assert relative_error(rest, value) < 1e-9, name
    assert outputs["energy"].isfinite().all()
    assert outputs["forces"].isfinite().all()


@pytest.mark.parametrize("kind", ["conservative", "full"])
def test_a_batch_with_a_molecule_trains_stress_as_one_without_does(kind):
    """Its prediction is a zero without gradient; a zero cell spoils no gradient either."""
    gradients = []
    for others in ([], [molecule()]):
        model = MODELS[kind](alpha_drop=0.0, drop_path_rate=0.0).train()
        outputs = flatten(model(batch_of(crystal(), *others)))
        assert not outputs["stress"][1:].any()
        (outputs["stress"].square().sum() + outputs["forces"][:4].square().sum()).backward()
        found = [p.grad for p in model.parameters() if p.grad is not None]
        assert all(gradient.isfinite().all() for gradient in found)
        gradients.append(torch.cat([gradient.flatten() for gradient in found]))
    assert relative_error(gradients[1], gradients[0]) < 1e-9


def test_a_structure_without_volume_spoils_no_derivative_of_the_others():
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3, generator=generator, dtype=torch.float64, requires_grad=True)
    pos = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    slab = torch.diag(torch.tensor([4.0, 4.0, 0.0], dtype=torch.float64))
    cell = torch.stack([4 * torch.eye(3, dtype=torch.float64), slab]).requires_grad_()
    batch = torch.tensor([0, 0, 0, 1, 1])
    terms = (pos @ weights).square()
    energy = torch.zeros(2, dtype=torch.float64).index_add(0, batch, terms)
    energy = energy + (cell @ weights).square().sum(1)
    data = {"pos": pos, "cell": cell, "batch": batch}
    forces, stress = forces_and_stress(energy, data, True)
    pbc = torch.tensor([[True, True, True], [True, True, False]])
    stress = where_volume(stress, pbc, training=True)
    (by_both,) = torch.autograd.grad(
        forces.square().sum() + stress.square().sum(), weights, retain_graph=True
    )
    (expected,) = torch.autograd.grad(forces.square().sum() + stress[0].square().sum(), weights)
    assert torch.isfinite(by_both).all()
    torch.testing.assert_close(by_both, expected)
