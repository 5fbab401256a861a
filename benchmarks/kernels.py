"""Time of each fused kernel beside the reference, forward and backward, as a Markdown table.

    python benchmarks/kernels.py [--device cpu|cuda] [--dtype float32|bfloat16] [--edges 1475]

Sizes are those of one attention layer of the published models, with 20 neighbours per atom and
random numbers. Kernel and reference take turns; printed are medians (least to largest), the ratio,
the relative difference of the results, and the rate at which the kernel moves its inputs and
outputs, each counted once. The first calls, which compile, are not timed.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from eqv2_plugin.geometry.edge_frames import edge_frames
from eqv2_plugin.geometry.irreps import EdgeLayout, num_coefficients
from eqv2_plugin.geometry.sphere_grid import edge_grid_matrices, grid_shape
from eqv2_plugin.geometry.wigner import stretched_coupling, wigner_rows
from eqv2_plugin.kernels.choice import choose_kernels
from eqv2_plugin.kernels.interface import Kernels, RadialWeights
from eqv2_plugin.kernels.reference import REFERENCE
from eqv2_plugin.layers.edges import sort_by_target
from eqv2_plugin.layers.sphere_grid import SphereGrid

NEIGHBOURS = 20
CHANNELS, HIDDEN, HEADS, PER_HEAD, RESOLUTION = 128, 64, 8, 16, 18
LAYOUTS = {"31M": EdgeLayout(4, 2), "83M": EdgeLayout(6, 2)}

Tensors = tuple[torch.Tensor, ...]


@dataclass
class SomeEdges:
    """What kernels read of edges."""

    layout: EdgeLayout
    source: torch.Tensor
    target: torch.Tensor
    offsets: torch.Tensor
    wigner: list[torch.Tensor]
    packed: torch.Tensor | None = None

    @property
    def local_target(self) -> torch.Tensor:
        return self.target

    def packed_by(self, kernels: Kernels) -> SomeEdges:
        """The same edges; packed once, as in a forward pass of the model."""
        if self.packed is None:
            self.packed = kernels.pack(self.wigner)
        return self


@dataclass
class Case:
    """One operation of the interface on some leaves; results may come in pieces."""

    name: str
    leaves: Tensors
    run: Callable[..., Tensors]


def make_cases(
    layout: EdgeLayout, edges: int, device: torch.device, dtype: torch.dtype
) -> list[Case]:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int, kind: torch.dtype = dtype) -> torch.Tensor:
        numbers = torch.randn(*shape, generator=generator)
        return numbers.to(device, kind).requires_grad_()

    atoms = max(edges // NEIGHBOURS, 1)
    index = torch.randint(atoms, (2, edges), generator=generator)
    order, offsets = sort_by_target(index, atoms)
    (source, target), offsets = index[:, order].to(device), offsets.to(device)
    vectors = torch.randn(edges, 3, generator=generator, dtype=torch.float64)
    couplings = [torch.from_numpy(stretched_coupling(l)) for l in range(2, layout.lmax + 1)]
    blocks = wigner_rows(edge_frames(vectors), layout, couplings)
    blocks = [block.to(device, torch.float32) for block in blocks]
    batch = SomeEdges(layout, source, target, offsets, blocks)
    _, longitudes = grid_shape(layout.lmax, layout.mmax, RESOLUTION)
    matrices = edge_grid_matrices(layout, RESOLUTION)
    grid = SphereGrid(matrices, [order for _, order in layout.rows], longitudes).to(device)

    def rotate(kernels: Kernels, nodes: torch.Tensor, radial: torch.Tensor) -> Tensors:
        # Order by order, as `SO2Linear` multiplies, joining nothing.
        weights = RadialWeights(lambda columns: radial[:, columns], layout, 2 * CHANNELS, False)
        orders = kernels.gather_rotate_scale(nodes, batch.packed_by(kernels), weights)
        return tuple(part for order in orders for part in order)

    def activate(kernels: Kernels, features: torch.Tensor) -> Tensors:
        return (kernels.sampled_silu(features, grid, 1),)

    def reduce(kernels: Kernels, values: torch.Tensor, attention: torch.Tensor) -> Tensors:
        return (kernels.weigh_rotate_sum(values, attention, batch.packed_by(kernels), None),)

    nodes = random(atoms, num_coefficients(layout.lmax), CHANNELS, kind=torch.float32)
    radial = random(edges, layout.radial_size(2 * CHANNELS, shared=False))
    values = random(edges, layout.size, HEADS * PER_HEAD)
    attention = random(edges, HEADS, kind=torch.float32)
    return [
        Case("rotation to edge frames", (nodes, radial), rotate),
        Case("S2 activation", (random(edges, layout.size, HIDDEN),), activate),
        Case("rotation back and sum", (values, attention), reduce),
    ]


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Of one call; on a GPU the mean of ten, which do not wait for each other."""
    calls = 10 if device.type == "cuda" else 1
    wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    wait(device)
    return (time.perf_counter() - start) / calls


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def alternate(calls: list[Callable[[], object]], repeats: int, device: torch.device):
    """Seconds of each call, ``repeats`` times, in turn."""
    for call in calls:
        call()
        call()
    taken = [[seconds(call, device) for call in calls] for _ in range(repeats)]
    return list(zip(*taken, strict=True))


def difference(found: Tensors, wanted: Tensors) -> float:
    """Largest one, relative to the largest number of each tensor."""
    pairs = [(f.detach().double(), w.detach().double()) for f, w in zip(found, wanted, strict=True)]
    return max(float((f - w).abs().max() / w.abs().max()) for f, w in pairs)


def rows_of(
    case: Case, fused: Kernels, dtype: torch.dtype, repeats: int, device: torch.device
) -> list[str]:
    leaves, both = case.leaves, (REFERENCE, fused)

    def forward(kernels: Kernels) -> Tensors:
        with torch.autocast(device.type, dtype, dtype != torch.float32):
            return case.run(kernels, *leaves)

    with torch.no_grad():
        times = alternate([partial(forward, kernels) for kernels in both], repeats, device)
    wanted, found = (forward(kernels) for kernels in both)
    rows = [row(case.name, "forward", times, difference(found, wanted), (*leaves, *found))]

    gradients = [torch.randn_like(part) for part in found]

    def backward(result: Tensors) -> Tensors:
        given = [gradient.to(part) for gradient, part in zip(gradients, result, strict=True)]
        return torch.autograd.grad(result, leaves, given, retain_graph=True)

    times = alternate([partial(backward, result) for result in (wanted, found)], repeats, device)
    gap = difference(backward(found), backward(wanted))
    rows.append(row(case.name, "backward", times, gap, (*leaves, *leaves, *found)))
    return rows


def row(name: str, which: str, times, gap: float, moved: Tensors) -> str:
    reference, fused = (statistics.median(series) for series in times)
    shown = [
        f"{1e3 * statistics.median(s):.3g} ({1e3 * min(s):.3g} to {1e3 * max(s):.3g})"
        for s in times
    ]
    rate = sum(t.numel() * t.element_size() for t in moved) / fused / 1e9
    return (
        f"| {name} | {which} | {shown[0]} | {shown[1]}"
        f" | {reference / fused:.2f} | {gap:.0e} | {rate:.3g} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=default)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--edges", type=int, default=1475, help="one slab of 70 atoms: 1475")
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    if device.type == "cpu" and dtype != torch.float32:
        parser.error("the kernels of CPUs take float32 only")
    logging.basicConfig(level=logging.INFO)  # says which compiler works, or why it does not
    fused = choose_kernels(torch.zeros(1, device=device), 2**20, CHANNELS)
    if fused is REFERENCE:
        raise SystemExit("nothing to compare")
    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    print(f"{where}{threads}, torch {torch.__version__}, {options.dtype}, {options.edges} edges\n")
    print(
        "| | | torch, ms | kernel, ms | ratio | difference | GB/s |\n|---|---|---|---|---|---|---|"
    )
    for size, layout in LAYOUTS.items():
        for case in make_cases(layout, options.edges, device, dtype):
            case.name = f"{size}, {case.name}"
            for line in rows_of(case, fused, dtype, options.repeats, device):
                print(line, flush=True)


if __name__ == "__main__":
    main()
