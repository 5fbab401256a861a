"""What only Triton's kernels do, and whole models on them; run by test_triton.py."""

from __future__ import annotations

import dataclasses
import logging
from statistics import mean

import pytest
import torch
from ase.build import molecule
from helpers import batch_of, flatten, tiny_model
from kernel_inputs import (
    DEVICE,
    activation,
    assert_equal_to_reference,
    outputs_and_gradients,
    reduction,
    relative_error,
    relative_errors,
    rotation,
)

from eqv2_plugin.kernels import choice, triton_kernels
from eqv2_plugin.kernels.gather import edges_of_nodes
from eqv2_plugin.kernels.triton_kernels import TritonKernels

SMALL = {
    "lmax": 2,
    "mmax": 1,
    "grid_resolution": 6,
    "num_layers": 1,
    "alpha_drop": 0.0,
    "drop_path_rate": 0.0,
}


@pytest.fixture(autouse=True)
def triton_chosen(monkeypatch):
    """The interpreter runs on a CPU, where Numba would be chosen."""
    monkeypatch.setattr(choice, "compiler_of", lambda device: "triton")


@pytest.fixture
def calls(monkeypatch):
    """Names of the kernels that ran."""
    seen, launch = [], triton_kernels.launch

    def counted(kernel, *arguments, **options):
        seen.append(kernel.__name__)
        launch(kernel, *arguments, **options)

    monkeypatch.setattr(triton_kernels, "launch", counted)
    return seen


WATER = molecule("H2O")


def water():
    return batch_of(WATER, dtype=torch.float32).to(DEVICE)


@pytest.mark.parametrize("shared", [False, True])
def test_a_model_returns_the_same_outputs_and_gradients(shared, calls):
    model = tiny_model(**SMALL, use_m_share_rad=shared)
    exact = outputs_and_gradients(model.double(), WATER)
    with choice.use_fused_kernels(False):
        reference = outputs_and_gradients(model.float(), WATER)
    assert not calls
    found = outputs_and_gradients(model, WATER)
    assert set(calls) - {"_probe"} == {
        "rotation_forward",
        "rotation_backward_radial",
        "rotation_backward_nodes",
        "reduction_forward",
        "reduction_backward",
        "sphere_forward",
        "sphere_backward",
    }
    # float32 has errors of its own; those with kernels must be of the same size.
    assert mean(relative_errors(found, exact)) < 2 * mean(relative_errors(reference, exact)) < 1e-5


def test_bfloat16_under_autocast_is_as_exact_as_torch(calls):
    model = tiny_model(**SMALL)
    exact = outputs_and_gradients(model.double(), WATER)
    model.float()
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        found = outputs_and_gradients(model, WATER)
        count = len(calls)
        with choice.use_fused_kernels(False):
            reference = outputs_and_gradients(model, WATER)
    assert count == len(calls) > 0
    assert mean(relative_errors(found, exact)) < 1.5 * mean(relative_errors(reference, exact)) < 0.1


def test_chunks_change_nothing(calls):
    model = tiny_model(**SMALL).float().to(DEVICE)
    with torch.no_grad():
        whole = flatten(model(water()))
        count = len(calls)
        config = model.backbone.config
        model.backbone.config = dataclasses.replace(config, edge_chunk_size=2)
        pieces = flatten(model(water()))
    assert len(calls) == 4 * count
    for name, value in whole.items():
        assert relative_error(pieces[name], value) < 1e-5


def test_the_log_says_which_kernels_run(caplog):
    choice.triton_works.cache_clear()
    with caplog.at_level(logging.INFO):
        assert choice.triton_works(DEVICE)
        assert choice.triton_works(DEVICE)
    assert caplog.text.count("attention kernels on the GPU: compiled by Triton") == 1


# Heads of one channel, more channels than one program takes, one head as wide as a program.
@pytest.mark.parametrize(("heads", "per_head"), [(5, 1), (9, 16), (1, 130), (8, 16)])
def test_any_heads_fit(heads, per_head):
    assert_equal_to_reference(reduction(1, 1, heads, per_head, count=2))


def test_blocks_of_channels_are_put_together():
    assert_equal_to_reference(rotation(1, 1, channels=136, count=2))
    assert_equal_to_reference(activation(2, 1, 6, channels=9, count=15))


def assert_one_rounding(found, wide):
    """``found`` is ``wide`` in bfloat16; the interpreter cuts digits off instead of rounding."""
    assert found.dtype == torch.bfloat16
    assert ((found.float() - wide).abs() <= 1e-6 + 2**-7 * wide.abs()).all()


@pytest.mark.parametrize(
    ("operation", "short"),
    [
        (rotation(2, 2, 6, count=5), [False, True]),
        (reduction(2, 2, 3, 2, count=5), [True, False]),
        (activation(2, 2, 6, 5, count=4), [True]),
    ],
)
def test_bfloat16_is_rounded_only_at_the_end(operation, short):
    given = [t.bfloat16() if s else t for t, s in zip(operation.tensors, short, strict=True)]
    kernels = TritonKernels()
    with torch.no_grad():
        out = operation.run(kernels, [t.to(DEVICE) for t in given], torch.clone).cpu()
        wide = operation.run(kernels, [t.float().to(DEVICE) for t in given], torch.clone).cpu()
    assert_one_rounding(out, wide)
    _, *found = operation.gradients(kernels, given)
    leaves = [t.double().requires_grad_() for t in given]
    exact = operation.run(choice.REFERENCE, leaves, torch.clone)
    wanted = torch.autograd.grad(exact, leaves, 2 * out.double())
    for one, two, is_short in zip(found, wanted, short, strict=True):
        if is_short:
            assert_one_rounding(one, two)
        else:
            assert one.dtype == torch.float32
            assert relative_error(one, two) < 1e-6


@pytest.mark.parametrize(
    ("index", "backward"), [(0, "rotation_backward_nodes"), (1, "rotation_backward_radial")]
)
def test_gradients_nobody_asks_for_are_not_computed(index, backward, calls):
    operation = rotation(1, 1, 6, count=5)
    leaves = [t.to(DEVICE) for t in operation.tensors]
    leaves[index].requires_grad_()
    operation.run(TritonKernels(), leaves, torch.clone).sum().backward()
    assert leaves[1 - index].grad is None
    assert calls == ["rotation_forward", backward]


def test_every_node_finds_its_edges_once():
    source, target = torch.tensor([2, 0, 2, 3]), torch.tensor([0, 0, 2, 2])
    order, offsets = edges_of_nodes(source, target, 5)
    nodes = [order[offsets[n] : offsets[n + 1]].tolist() for n in range(5)]
    # Sources count from 0, targets from 4; an edge from a node to itself counts twice.
    assert nodes == [[1, 4, 5], [], [0, 2, 6, 7], [3], []]


def test_edges_are_sorted_once_for_all_layers(monkeypatch):
    sizes, sort = [], torch.sort

    def counted(tensor, **options):
        sizes.append(len(tensor))
        return sort(tensor, **options)

    monkeypatch.setattr(torch, "sort", counted)
    model = tiny_model(**{**SMALL, "num_layers": 3}).float().train().to(DEVICE)
    outputs = flatten(model(water()))
    sum(value.square().sum() for value in outputs.values()).backward()
    assert sizes.count(max(sizes)) == 1  # the graph sorts others
    sizes.clear()
    source, target = torch.tensor([2, 0, 2]), torch.tensor([0, 1, 1])
    assert edges_of_nodes(source, target, 3)[0] is edges_of_nodes(source, target, 3)[0]
    assert edges_of_nodes(source, target.flip(0), 3)[1].tolist() == [0, 2, 4, 6]
    assert edges_of_nodes(source, target, 4)[1].tolist() == [0, 2, 4, 6, 6]
    assert len(sizes) == 3
