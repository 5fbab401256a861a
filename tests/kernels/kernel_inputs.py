"""Random edges and features for the three operations, and the kernels under test.

They are Numba's, or in a process with ``EQV2_TEST_KERNELS=triton`` Triton's: on a GPU where there
is one, else in Triton's interpreter.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from ase import Atoms
from helpers import batch_of, flatten

from eqv2_plugin.geometry.edge_frames import edge_frames
from eqv2_plugin.geometry.irreps import EdgeLayout, num_coefficients
from eqv2_plugin.geometry.sphere_grid import edge_grid_matrices, grid_shape
from eqv2_plugin.geometry.wigner import stretched_coupling, wigner_rows
from eqv2_plugin.kernels.interface import Kernels, RadialWeights
from eqv2_plugin.kernels.reference import REFERENCE
from eqv2_plugin.kernels.segments import segment_offsets
from eqv2_plugin.layers.sphere_grid import SphereGrid

TRITON = os.environ.get("EQV2_TEST_KERNELS") == "triton"
DEVICE = torch.device("cuda" if TRITON and torch.cuda.is_available() else "cpu")


def kernels_under_test() -> Kernels:
    if TRITON:
        from eqv2_plugin.kernels.triton_kernels import TritonKernels

        return TritonKernels()
    from eqv2_plugin.kernels.numba_kernels import NumbaKernels

    return NumbaKernels()


@dataclass
class SomeEdges:
    """Edges between twelve nodes; nodes 0, 5 and 11 have none, two edges may share both ends."""

    layout: EdgeLayout
    source: torch.Tensor
    target: torch.Tensor
    offsets: torch.Tensor
    wigner: list[torch.Tensor]
    packed: torch.Tensor | None = None

    @property
    def local_target(self) -> torch.Tensor:
        return self.target

    def for_kernels(self, kernels: Kernels, dtype: torch.dtype, form: Callable) -> SomeEdges:
        """On their device, the Wigner rows in this dtype; ``form`` may give other strides."""
        device = torch.device("cpu") if dtype == torch.float64 else DEVICE
        indices = (t.to(device) for t in (self.source, self.target, self.offsets))
        wigner = [block.to(device, dtype) for block in self.wigner]
        packed = kernels.pack(wigner)
        return SomeEdges(self.layout, *indices, wigner, None if packed is None else form(packed))


@dataclass
class Operation:
    """One of the three, with what it acts on.

    Attributes:
        tensors: its differentiable arguments, float32.
        run: (kernels, arguments, form of packed Wigner rows) -> result; float64 for the reference.
    """

    tensors: list[torch.Tensor]
    run: Callable[..., torch.Tensor]

    def gradients(
        self, kernels: Kernels, tensors: list[torch.Tensor], form: Callable = torch.clone
    ) -> list[torch.Tensor]:
        """The result, and the gradients of the sum of its squares by all arguments."""
        device = torch.device("cpu") if tensors[0].dtype == torch.float64 else DEVICE
        leaves = [form(t.to(device)).detach().requires_grad_() for t in tensors]
        out = self.run(kernels, leaves, form)
        of_tensors = torch.autograd.grad(out, leaves, form(2 * out.detach()))
        return [t.detach().cpu() for t in (out, *of_tensors)]


def assert_equal_to_reference(operation: Operation) -> torch.Tensor:
    """Values and first derivatives; returns the values."""
    found = operation.gradients(kernels_under_test(), operation.tensors)
    exact = operation.gradients(REFERENCE, [t.double() for t in operation.tensors])
    for ours, theirs in zip(found, exact, strict=True):
        assert relative_error(ours, theirs) < 1e-6
    return found[0]


def random_edges(lmax: int, mmax: int, count: int) -> SomeEdges:
    generator = torch.Generator().manual_seed(100 * lmax + mmax)
    layout = EdgeLayout(lmax, mmax)
    vectors = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    couplings = [torch.from_numpy(stretched_coupling(l)) for l in range(2, lmax + 1)]
    wigner = [block.float() for block in wigner_rows(edge_frames(vectors), layout, couplings)]
    with_edges = torch.tensor([1, 2, 3, 4, 6, 7, 8, 9, 10])
    picked = torch.randint(len(with_edges), (count,), generator=generator)
    target = with_edges[picked].sort().values
    source = torch.randint(12, (count,), generator=generator)
    return SomeEdges(layout, source, target, segment_offsets(target, 12), wigner)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def rotation(
    lmax: int, mmax: int, channels: int, count: int = 37, shared: bool = False
) -> Operation:
    """Result [E, size 2C], order after order."""
    edges = random_edges(lmax, mmax, count)
    layout = edges.layout

    def run(kernels: Kernels, tensors: list[torch.Tensor], form: Callable) -> torch.Tensor:
        nodes, radial = tensors
        weights = RadialWeights(lambda columns: radial[:, columns], layout, 2 * channels, shared)
        mine = edges.for_kernels(kernels, nodes.dtype, form)
        blocks = kernels.gather_rotate_scale(nodes, mine, weights)
        return torch.cat([part for block in blocks for part in block], dim=1)

    width = layout.radial_size(2 * channels, shared)
    return Operation([randn(12, num_coefficients(lmax), channels), randn(count, width)], run)


def reduction(
    lmax: int, mmax: int, heads: int, per_head: int, count: int = 37, degree: int | None = None
) -> Operation:
    """Result [12, (lmax+1)^2, C], or [12, 2 degree + 1, C]."""
    edges = random_edges(lmax, mmax, count)

    def run(kernels: Kernels, tensors: list[torch.Tensor], form: Callable) -> torch.Tensor:
        values, attention = tensors
        mine = edges.for_kernels(kernels, attention.dtype, form)
        return kernels.weigh_rotate_sum(values, attention, mine, degree)

    rows = edges.layout.size if degree is None else 2 * min(degree, mmax) + 1
    return Operation([randn(count, rows, heads * per_head), randn(count, heads)], run)


def sphere_grid(lmax: int, mmax: int, resolution: int | None) -> SphereGrid:
    layout = EdgeLayout(lmax, mmax)
    longitudes = grid_shape(lmax, mmax, resolution)[1]
    orders = [order for _, order in layout.rows]
    return SphereGrid(edge_grid_matrices(layout, resolution), orders, longitudes)


def activation(
    lmax: int, mmax: int, resolution: int, channels: int, count: int = 19, first_row: int = 1
) -> Operation:
    """Result [E, size - first_row, C]."""
    grid = sphere_grid(lmax, mmax, resolution)

    def run(kernels: Kernels, tensors: list[torch.Tensor], form: Callable) -> torch.Tensor:
        (features,) = tensors
        exact = features.dtype == torch.float64
        return kernels.sampled_silu(features, grid.double() if exact else grid, first_row)

    return Operation([2 * randn(count, EdgeLayout(lmax, mmax).size, channels)], run)


def separable(lmax: int, mmax: int, resolution: int, channels: int, count: int = 19) -> Operation:
    """The activation whose row 0 is SiLU of scalars: result [E, size, C]."""
    grid = sphere_grid(lmax, mmax, resolution)

    def run(kernels: Kernels, tensors: list[torch.Tensor], form: Callable) -> torch.Tensor:
        features, scalars = tensors
        exact = features.dtype == torch.float64
        return kernels.separable_silu(features, scalars, grid.double() if exact else grid)

    shape = count, EdgeLayout(lmax, mmax).size, channels
    return Operation([2 * randn(*shape), randn(count, channels)], run)


def outputs_and_gradients(model: torch.nn.Module, atoms: Atoms) -> dict[str, torch.Tensor]:
    """Outputs of a training model in its dtype, and gradients of its parameters, by name."""
    dtype = next(model.parameters()).dtype
    outputs = flatten(model.train().to(DEVICE)(batch_of(atoms, dtype=dtype).to(DEVICE)))
    loss = sum(value.double().square().sum() for value in outputs.values())
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    gradients = torch.autograd.grad(loss, list(trained.values()))
    found = {**outputs, **dict(zip(trained, gradients, strict=True))}
    return {name: value.detach().cpu() for name, value in found.items()}


def relative_errors(found: dict[str, torch.Tensor], exact: dict[str, torch.Tensor]) -> list[float]:
    """Of each tensor that does not vanish."""
    return [relative_error(found[name], value) for name, value in exact.items() if value.any()]


def strided(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers with other strides in the first two dimensions."""
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted.double()).abs().max() / wanted.double().abs().max())
