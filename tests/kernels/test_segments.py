"""Sums and softmax over the neighbours of an atom."""

from __future__ import annotations

import pytest
import torch
from helpers import EVERY_ATOM, graphs, largest, randn, targets_of

from eqv2_plugin.kernels.segments import (
    segment_offsets,
    softmax_over_neighbours,
    sum_of_segments,
    sum_over_neighbours,
)

SUMS = [sum_over_neighbours, sum_of_segments]  # of the CPU, and of GPUs


def indices(counts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    target = targets_of(counts)
    return target, segment_offsets(target, len(counts))


def loop_over_atoms(values: torch.Tensor, counts: list[int]) -> torch.Tensor:
    return torch.stack([part.sum(0) for part in values.split(counts)])


@graphs
def test_offsets_point_to_the_first_edge_of_every_atom(counts):
    _, offsets = indices(counts)
    assert offsets.tolist() == [sum(counts[:i]) for i in range(len(counts) + 1)]


@graphs
@pytest.mark.parametrize("summed", SUMS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_sum_equals_a_loop_over_atoms_and_is_zero_without_edges(counts, summed, shape):
    target, offsets = indices(counts)
    values = randn(0, sum(counts), *shape)
    output = summed(values, target, offsets)
    assert largest(output - loop_over_atoms(values, counts)) < 1e-14
    assert not output[[i for i, count in enumerate(counts) if count == 0]].any()


@graphs
def test_segment_sum_has_correct_first_and_second_derivatives(counts):
    target, offsets = indices(counts)
    values = randn(1, sum(counts), 2).requires_grad_(True)

    def squared(x: torch.Tensor) -> torch.Tensor:
        return sum_of_segments(x * x, target, offsets)

    assert torch.autograd.gradcheck(lambda x: sum_of_segments(x, target, offsets), values)
    assert torch.autograd.gradcheck(squared, values)
    assert torch.autograd.gradgradcheck(squared, values)


def test_sums_of_bfloat16_are_taken_in_float32():
    values = torch.full((1000, 1), 1.0).bfloat16()
    target = torch.zeros(1000, dtype=torch.long)
    output = sum_over_neighbours(values, target, segment_offsets(target, 1))
    assert output.dtype == torch.float32
    assert output.item() == 1000.0


@graphs
def test_softmax_equals_a_loop_over_atoms_and_sums_to_one(counts):
    target, offsets = indices(counts)
    logits = 4 * randn(2, sum(counts), 3)
    output = softmax_over_neighbours(logits, target, offsets)
    wanted = torch.cat([torch.softmax(part, dim=0) for part in logits.split(counts)])
    assert largest(output - wanted) < 1e-14
    sums = sum_over_neighbours(output, target, offsets)
    for atom, count in enumerate(counts):
        assert largest(sums[atom] - (1.0 if count else 0.0)) < 1e-14


@graphs
def test_softmax_has_the_derivatives_of_the_loop(counts):
    target, offsets = indices(counts)
    logits = randn(3, sum(counts), 2).requires_grad_(True)

    def ours(x: torch.Tensor) -> torch.Tensor:
        return softmax_over_neighbours(x, target, offsets)

    assert torch.autograd.gradcheck(ours, logits)
    assert torch.autograd.gradgradcheck(ours, logits)
    weights = randn(4, *logits.shape)
    loop = torch.cat([torch.softmax(part, dim=0) for part in logits.split(counts)])
    (wanted,) = torch.autograd.grad((loop * weights).sum(), logits)
    (gradient,) = torch.autograd.grad((ours(logits) * weights).sum(), logits)
    assert largest(gradient - wanted) < 1e-14


@pytest.mark.parametrize("shift", [1e4, -1e4, 80.0])
def test_softmax_does_not_overflow_and_ignores_a_common_shift(shift):
    target, offsets = indices(EVERY_ATOM)
    logits = randn(2, sum(EVERY_ATOM), 3, dtype=torch.float32)
    output = softmax_over_neighbours(logits + shift, target, offsets)
    assert torch.isfinite(output).all()
    assert largest(output - softmax_over_neighbours(logits, target, offsets)) < 2e-3


@graphs
def test_results_have_the_same_bits_on_every_call(counts):
    target, offsets = indices(counts)
    values = randn(5, sum(counts), 4, dtype=torch.float32)
    for function in (*SUMS, softmax_over_neighbours):
        assert torch.equal(function(values, target, offsets), function(values, target, offsets))
