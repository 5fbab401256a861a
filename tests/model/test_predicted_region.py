"""Compiled predictions: their numbers, their one size or few, and what runs without.

torch.compile is left out here but in the slow test: what is recorded runs as it is.
"""

from __future__ import annotations

import logging

import pytest
import torch
from ase import Atoms
from helpers import (
    BACKBONE,
    TOY,
    batch_of,
    conservative_model,
    crystal,
    flatten,
    molecule,
    tiny_model,
)
from static_batches import KINDS, STRUCTURES

from eqv2_plugin.graphs.padding import bucket_of_copies
from eqv2_plugin.models.hydra import EquiformerV2
from eqv2_plugin.models.region import CompiledRegion


@pytest.fixture
def compiled(monkeypatch) -> list:
    """What was handed to torch.compile."""
    seen = []

    def compile_nothing(function, **options):
        seen.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile_nothing)
    return seen


def predictions(model: EquiformerV2, *structures: Atoms) -> dict[str, torch.Tensor]:
    """As fairchem's unit asks for them: positions require gradients where forces are some."""
    dtype = next(model.parameters()).dtype
    data = batch_of(*structures, dtype=dtype)
    if model.backbone.is_conservative:
        data.pos.requires_grad_(True)
    return flatten(model(data))


def assert_equal(model: EquiformerV2, structures: list[Atoms], tolerance: float) -> None:
    region, model.region = model.region, None
    expected = predictions(model, *structures)
    model.region = region
    found = predictions(model, *structures)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name].isnan(), value.isnan())
        gap = (found[name] - value).detach().nan_to_num().abs().max()
        assert gap <= tolerance * value.detach().nan_to_num().abs().max(), name


def moved(structures: list[Atoms], seed: int) -> list[Atoms]:
    copies = [atoms.copy() for atoms in structures]
    for atoms in copies:
        atoms.rattle(0.02, seed=seed)
    return copies


@pytest.mark.parametrize(
    ("kind", "dtype", "tolerance"),
    [
        pytest.param("direct", torch.float64, 1e-12, marks=pytest.mark.slow),
        pytest.param("conservative", torch.float64, 1e-12, marks=pytest.mark.slow),
        ("conservative", torch.float32, 3e-6),
    ],
)
def test_predictions_equal_those_without(kind, dtype, tolerance, compiled):
    heads, options = KINDS[kind]
    model = tiny_model(heads, dtype=dtype, **{"backbone": BACKBONE, "num_layers": 1, **options})
    model.region = CompiledRegion(predicts=True)
    for seed in range(3):
        assert_equal(model, moved(STRUCTURES, seed), tolerance)
    assert len(compiled) == 1
    found = predictions(model, *STRUCTURES)
    assert not any(value.requires_grad for value in found.values())


def test_any_number_of_replicas_runs_in_one_size_and_more_run_without(compiled, caplog):
    model = conservative_model(stress=False, backbone=TOY)
    model.region = CompiledRegion(predicts=True, sizes=bucket_of_copies(3, 9, 72))
    with caplog.at_level(logging.WARNING):
        for count in (3, 1, 2, 3):
            assert_equal(model, [molecule(seed) for seed in range(count)], 1e-12)
        assert len(compiled) == 1
        assert "without compilation" not in caplog.text
        for _ in range(2):
            assert_equal(model, [molecule(seed) for seed in range(4)], 1e-12)
    assert len(compiled) == 1
    assert caplog.text.count("edges runs without compilation") == 1


def test_sizes_beyond_the_first_ones_run_without(compiled):
    model = conservative_model(backbone=TOY)
    model.region = CompiledRegion(1, predicts=True)
    for structures in ([crystal()], [molecule()], [crystal()]):
        assert_equal(model, structures, 1e-12)
    assert len(compiled) == 1


def test_training_and_hessians_are_not_predictions(compiled):
    model = conservative_model(backbone=TOY)
    model.region = CompiledRegion(predicts=True)
    assert predictions(model.train(), molecule())["energy"].requires_grad
    model.eval().backbone.regress_config.hessian = True
    assert "hessian" in predictions(model, molecule())
    assert not compiled


def test_other_numbers_than_the_models_are_thrown_away(monkeypatch, caplog):
    monkeypatch.setattr(
        torch, "compile", lambda graph, **options: lambda *given: [1.01 * x for x in graph(*given)]
    )
    model = conservative_model(backbone=TOY)
    model.region = CompiledRegion(predicts=True)
    with caplog.at_level(logging.WARNING):
        for seed in range(2):
            assert_equal(model, [molecule(seed)], 0.0)
    assert caplog.text.count("returned other numbers than the model") == 1


@pytest.mark.slow
def test_compiled_predictions_equal_those_without():
    model = conservative_model(dtype=torch.float32, num_layers=1, attn_hidden_channels=16)
    model.region = CompiledRegion(predicts=True)
    for seed in range(2):
        assert_equal(model, moved([molecule(), crystal()], seed), 3e-6)
    assert model.region.works
