"""Fused kernels against the reference implementation; `test_triton.py` runs this for Triton."""

from __future__ import annotations

import pytest
import torch
from kernel_inputs import (
    TRITON,
    activation,
    assert_equal_to_reference,
    kernels_under_test,
    randn,
    random_edges,
    reduction,
    relative_error,
    rotation,
    separable,
    strided,
)

from eqv2_plugin.kernels.interface import RadialWeights
from eqv2_plugin.kernels.reference import REFERENCE

# Numba takes multiples of 16; Triton's interpreter is slow.
CHANNELS = 6 if TRITON else 16
FEW = {"count": 5} if TRITON else {}
ORDERS = [(1, 0), (1, 1), (2, 1), (2, 2), (3, 2), (4, 2), (5, 3), (6, 2), (6, 3), (7, 2), (8, 2)]
# The coarsest grid of each degree; Numba compiles two kernels for each, so that it gets every
# mmax and the sizes of published models.
GRIDS = [
    (1, 0, 4), (1, 1, 4), (2, 1, 6), (2, 2, 6), (3, 2, 8), (3, 3, 8), (4, 2, 10), (5, 3, 12),
    (6, 2, 14), (7, 2, 16), (8, 2, 18),
] if TRITON else [(1, 0, 4), (2, 1, 6), (2, 2, 6), (5, 3, 12), (6, 2, 18), (8, 2, 20)]  # fmt: skip


def small(lmax: int, *others: int) -> bool:
    """What an interpreter runs in every variant."""
    return lmax < 3 or not TRITON


def edges_of(lmax: int) -> dict[str, int]:
    """One edge of many rows is enough where an interpreter runs it."""
    return FEW if small(lmax) else {"count": 1}


@pytest.mark.parametrize(
    ("lmax", "mmax", "shared"),
    [(*pair, False) for pair in ORDERS] + [(*pair, True) for pair in ORDERS if small(*pair)],
)
def test_rotation_equals_the_reference(lmax, mmax, shared):
    assert_equal_to_reference(rotation(lmax, mmax, CHANNELS, shared=shared, **edges_of(lmax)))


@pytest.mark.parametrize(("lmax", "mmax"), ORDERS)
def test_reduction_equals_the_reference(lmax, mmax):
    out = assert_equal_to_reference(reduction(lmax, mmax, 2, CHANNELS // 2, **edges_of(lmax)))
    assert not out[[0, 5, 11]].any()


@pytest.mark.parametrize(("lmax", "mmax", "degree"), [(2, 1, 1), (3, 2, 0), (3, 2, 1), (4, 2, 3)])
def test_reduction_to_one_degree_equals_the_reference(lmax, mmax, degree):
    assert_equal_to_reference(reduction(lmax, mmax, 2, CHANNELS // 2, degree=degree, **FEW))


@pytest.mark.parametrize(("lmax", "mmax", "resolution"), [(1, 0, 4), (2, 2, 6)])
def test_separable_activation_equals_the_reference(lmax, mmax, resolution):
    assert_equal_to_reference(separable(lmax, mmax, resolution, CHANNELS, **FEW))


@pytest.mark.parametrize(
    ("lmax", "mmax", "resolution", "first_row"),
    [(*sizes, 1) for sizes in GRIDS] + [(*sizes, 0) for sizes in GRIDS if small(*sizes)],
)
def test_activation_equals_the_reference(lmax, mmax, resolution, first_row):
    few = {"count": 3} if TRITON else {}
    assert_equal_to_reference(
        activation(lmax, mmax, resolution, CHANNELS, first_row=first_row, **few)
    )


@pytest.mark.parametrize("size", [0.0, 1e-20, 30.0, 1e3, 1e30])
def test_extreme_samples_stay_exact(size):
    operation = activation(2, 2, 6, CHANNELS, count=4)
    features = [size * operation.tensors[0]]
    out, gradient = operation.gradients(kernels_under_test(), features)
    assert torch.isfinite(out).all()
    assert torch.isfinite(gradient).all() or size == 1e30  # of squares
    if size == 0.0:
        assert not out.any()
    else:
        exact, _ = operation.gradients(REFERENCE, [features[0].double()])
        assert relative_error(out, exact) < 1e-6


OPERATIONS = {
    "rotation": lambda **few: rotation(2, 1, CHANNELS, **few),
    "reduction": lambda **few: reduction(2, 1, 2, CHANNELS // 2, **few),
    "activation": lambda **few: activation(2, 1, 6, CHANNELS, **few),
    "separable": lambda **few: separable(2, 1, 6, CHANNELS, **few),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_strided_inputs_give_the_same_bits(name):
    operation = OPERATIONS[name](**FEW)
    given = operation.gradients(kernels_under_test(), operation.tensors)
    found = operation.gradients(kernels_under_test(), operation.tensors, strided)
    assert all(torch.equal(one, two) for one, two in zip(given, found, strict=True))


@pytest.mark.parametrize("name", OPERATIONS)
def test_no_edges_give_no_rows_zero_sums_and_no_gradient(name):
    operation = OPERATIONS[name](count=0)
    out, *gradients = operation.gradients(kernels_under_test(), operation.tensors)
    assert not out.any()
    assert len(out) == (12 if name == "reduction" else 0)
    for tensor, gradient in zip(operation.tensors, gradients, strict=True):
        assert gradient.shape == tensor.shape
        assert not gradient.any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_is_not_finite_stays_visible_and_stays_with_its_edge(name, bad):
    operation, edges = OPERATIONS[name](), random_edges(2, 1, 37)
    node = int(edges.source[0])
    operation.tensors[0][node if name == "rotation" else 7, 4, 3] = bad
    out = operation.run(kernels_under_test(), operation.tensors, torch.clone)
    finite = torch.isfinite(out).flatten(1).all(dim=1)
    touched = torch.zeros(len(out), dtype=torch.bool)
    if name == "rotation":
        touched = (edges.source == node) | (edges.target == node)
    else:
        touched[edges.target[7] if name == "reduction" else 7] = True
    assert torch.equal(finite.cpu(), ~touched)


@pytest.mark.skipif(TRITON, reason="threads of a CPU")
@pytest.mark.parametrize("name", OPERATIONS)
def test_two_threads_equal_one(name):
    operation = OPERATIONS[name](count=200)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(operation.gradients(kernels_under_test(), operation.tensors))
    finally:
        torch.set_num_threads(before)
    for one, two in zip(*results, strict=True):
        # Two threads may add to one node.
        same = relative_error(two, one) < 1e-6 if name == "rotation" else torch.equal(one, two)
        assert same


def test_another_number_of_radial_weights_is_refused():
    edges, kernels = random_edges(2, 1, 3), kernels_under_test()
    mine = edges.for_kernels(kernels, torch.float32, torch.clone)
    few = randn(3, CHANNELS).to(mine.source.device)
    weights = RadialWeights(lambda columns: few, edges.layout, 2 * CHANNELS, shared=False)
    nodes = randn(12, 9, CHANNELS).to(few.device)
    with pytest.raises(ValueError, match=f"weights per edge are needed, got {CHANNELS}"):
        list(kernels.gather_rotate_scale(nodes, mine, weights))


def test_a_second_derivative_is_refused():
    operation = rotation(1, 1, CHANNELS, count=3)
    leaves = [t.requires_grad_() for t in operation.tensors]
    out = operation.run(kernels_under_test(), leaves, torch.clone)
    (first,) = torch.autograd.grad(out.square().sum(), leaves[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
