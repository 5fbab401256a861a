"""Recorded and compiled forward passes: outputs, gradients, random numbers, and what fails."""

from __future__ import annotations

import logging

import pytest
import torch
from helpers import BACKBONE, TOY, batch_of, conservative_model, molecule, randn, tiny_model
from static_batches import KINDS, STRUCTURES, static_batch
from torch.utils._pytree import tree_leaves, tree_structure

from eqv2_plugin.models.hydra import EquiformerV2
from eqv2_plugin.models.region import CompiledRegion, inputs_of, record

QUIET = {"alpha_drop": 0.0, "drop_path_rate": 0.0}
RANDOM = {"alpha_drop": 0.4, "drop_path_rate": 0.4, "num_layers": 1}


def training_model(kind: str, **changes) -> EquiformerV2:
    heads, options = KINDS[kind]
    return tiny_model(heads, **{"backbone": BACKBONE, **options, **changes}).train()


def with_gradients(model: EquiformerV2, values: list[torch.Tensor]) -> list[torch.Tensor]:
    """Values, and gradients of the parameters by a random sum of them."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    loss = sum((value * randn(i, *value.shape)).sum() for i, value in enumerate(values))
    return [*values, *torch.autograd.grad(loss, parameters)]


def assert_close(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    largest = max(float(value.abs().max()) for value in wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        scale = max(float(other.abs().max()), 1e-3 * largest)
        assert float((one - other).abs().max()) < 1e-11 * scale


@pytest.mark.parametrize(
    "kind", ["direct", "conservative", pytest.param("v1", marks=pytest.mark.slow)]
)
def test_what_is_recorded_has_the_outputs_and_gradients_of_the_model(kind):
    model = training_model(kind, **QUIET, num_layers=1)
    batch = static_batch(model, STRUCTURES, torch.float64)
    graph, form = record(model, batch)
    # At other positions than those that were recorded.
    moved = batch._replace(pos=batch.pos + 0.1 * randn(8, *batch.pos.shape))
    wanted = model.outputs_on(moved)
    assert form == tree_structure(wanted)
    found = with_gradients(model, graph(*inputs_of(model, moved)))
    assert_close(found, with_gradients(model, tree_leaves(wanted)))


def test_what_is_recorded_draws_random_numbers_anew_at_each_call():
    model = training_model("direct", **RANDOM)
    batch = static_batch(model, STRUCTURES, torch.float64)
    graph, _ = record(model, batch)
    inputs = inputs_of(model, batch)

    def forces(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return graph(*inputs)[1]

    assert torch.equal(forces(1), forces(1))
    assert not torch.allclose(forces(1), forces(2), rtol=0.01)


@pytest.mark.slow
def test_compiled_steps_equal_others(caplog):
    """And what is drawn afterwards is what would have been drawn without compilation."""
    model = conservative_model(backbone=TOY).train()
    region = CompiledRegion(most=1)
    batch = static_batch(model, STRUCTURES, torch.float64)
    torch.manual_seed(0)
    with caplog.at_level(logging.WARNING):
        for shift in (0.0, 0.1):
            moved = batch._replace(pos=batch.pos + shift * randn(8, *batch.pos.shape))
            found = region(model, moved)
            assert found is not None
            wanted = with_gradients(model, tree_leaves(model.outputs_on(moved)))
            assert_close(with_gradients(model, tree_leaves(found)), wanted)
    drawn = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(3), drawn)
    assert [r.message.split()[0] for r in caplog.records] == ["compiling", "compiled"]
    # One bucket only.
    assert region(model, static_batch(model, [molecule()], torch.float64)) is None


@pytest.mark.slow
def test_compiled_steps_within_data_parallel_training(tmp_path):
    """fairchem wraps the model even for one rank."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = conservative_model(backbone=TOY, num_layers=1).train()
        wrapped = torch.nn.parallel.DistributedDataParallel(model)
        data = batch_of(*STRUCTURES)
        gradients = []
        for region in (None, CompiledRegion()):
            model.region = region
            for _ in range(2):
                model.zero_grad()
                sum(value.square().sum() for value in tree_leaves(wrapped(data.clone()))).backward()
            gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        assert region.works
        assert_close(*gradients)
    finally:
        torch.distributed.destroy_process_group()


def test_where_compilation_fails_the_model_goes_on_without(monkeypatch, caplog):
    model = training_model("toy")
    data = batch_of(molecule())
    wanted = tree_leaves(model(data.clone()))

    def refuse(*args, **options):
        raise RuntimeError("no C++ compiler\nand a long explanation")

    monkeypatch.setattr(torch, "compile", refuse)
    model.region = CompiledRegion()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert_close(tree_leaves(model(data.clone())), wanted)
    said = [r.message for r in caplog.records if "failed" in r.message]
    assert said == ["compilation failed, going on without it: no C++ compiler"]
