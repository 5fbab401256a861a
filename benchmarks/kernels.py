"""Time of each compiled kernel and of its plain twin, forward and backward, as a Markdown table.

    python benchmarks/kernels.py [--device cpu|cuda] [--dtype float32|bfloat16] [--edges 1475]

Sizes are those of one attention layer of the published models, with 20 neighbours per atom and
random numbers. Kernel and twin take turns; printed are medians (least to largest), the ratio, the
relative difference of the results, and the rate at which the kernel moves its inputs and outputs,
each counted once. The first calls, which compile, are not timed.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from eqv2_plugin.geometry.edge_frames import edge_frames
from eqv2_plugin.geometry.irreps import EdgeLayout, num_coefficients
from eqv2_plugin.geometry.sphere_grid import edge_grid_matrices, grid_shape
from eqv2_plugin.geometry.wigner import (
    rotate_from_edge_frame,
    rotate_to_edge_frame,
    stretched_coupling,
    wigner_rows,
)
from eqv2_plugin.kernels import choice
from eqv2_plugin.kernels.reduction import weigh_rotate_sum
from eqv2_plugin.kernels.rotation import pack_wigner, rotate_and_scale
from eqv2_plugin.kernels.segments import sum_over_neighbours
from eqv2_plugin.kernels.sphere import sampled_silu
from eqv2_plugin.layers.edges import sort_by_target
from eqv2_plugin.layers.sphere_grid import SphereGrid

NEIGHBOURS = 20
CHANNELS, HIDDEN, HEADS, PER_HEAD, RESOLUTION = 128, 64, 8, 16, 18
LAYOUTS = {"31M": EdgeLayout(4, 2), "83M": EdgeLayout(6, 2)}

Tensors = tuple[torch.Tensor, ...]


@dataclass
class Case:
    """One operation: the kernel and its twin on the same leaves."""

    name: str
    leaves: Tensors
    kernel: Callable[..., torch.Tensor]
    twin: Callable[..., Tensors]


def kernels_of(device: torch.device) -> tuple[Callable[..., torch.Tensor], ...]:
    """The three operations as compiled for a device."""
    if device.type == "cpu":
        return rotate_and_scale, sampled_silu, weigh_rotate_sum
    from eqv2_plugin.kernels.triton_reduction import WeighRotateSum
    from eqv2_plugin.kernels.triton_rotation import RotateAndScale
    from eqv2_plugin.kernels.triton_sphere import SampledSiLU

    def rotate(nodes, source, target, packed, radial, layout):
        return RotateAndScale.apply(nodes, radial, source, target, packed, layout)

    return rotate, SampledSiLU.apply, WeighRotateSum.apply


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
    packed = pack_wigner(blocks)
    orders = [layout.num_degrees(order) for order in range(layout.mmax + 1)]
    rows = [orders[0], *(2 * count for count in orders[1:])]
    size = layout.radial_size(2 * CHANNELS, shared=False)
    rotate_kernel, silu_kernel, sum_kernel = kernels_of(device)
    _, longitudes = grid_shape(layout.lmax, layout.mmax, RESOLUTION)
    matrices = edge_grid_matrices(layout, RESOLUTION)
    grid = SphereGrid(matrices, [order for _, order in layout.rows], longitudes).to(device)

    def rotate(nodes: torch.Tensor, radial: torch.Tensor) -> Tensors:
        # As in `SO2Linear`, which multiplies order by order and joins nothing.
        ends = nodes[source], nodes[target]
        turned = rotate_to_edge_frame(ends, blocks, layout).split(rows, dim=1)
        weights = radial.unflatten(1, (-1, 2 * CHANNELS)).split(orders, dim=1)
        first = turned[0] * weights[0]
        signs = [part.unflatten(1, (2, -1)) for part in turned[1:]]
        rest = [part * w.unsqueeze(1) for part, w in zip(signs, weights[1:], strict=True)]
        return first, *(part.flatten(1, 2) for part in rest)

    def reduce(values: torch.Tensor, attention: torch.Tensor) -> Tensors:
        weighed = values.unflatten(2, (HEADS, -1)) * attention[:, None, :, None]
        turned = rotate_from_edge_frame(weighed.flatten(2), blocks, layout)
        return (sum_over_neighbours(turned, target, offsets),)

    return [
        Case(
            "rotation to edge frames",
            (random(atoms, num_coefficients(layout.lmax), CHANNELS, kind=torch.float32),
             random(edges, size)),
            lambda nodes, radial: rotate_kernel(nodes, source, target, packed, radial, layout),
            rotate,
        ),
        Case(
            "S2 activation",
            (random(edges, layout.size, HIDDEN),),
            lambda features: silu_kernel(features, grid.factors, 1),
            lambda features: (grid.silu(features, first_row=1),),
        ),
        Case(
            "rotation back and sum",
            (random(edges, layout.size, HEADS * PER_HEAD),
             random(edges, HEADS, kind=torch.float32)),
            lambda values, attention: sum_kernel(values, attention, packed, offsets, layout),
            reduce,
        ),
    ]  # fmt: skip


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


def rows_of(case: Case, dtype: torch.dtype, repeats: int, device: torch.device) -> list[str]:
    leaves = case.leaves

    def forward(function: Callable) -> Callable[[], object]:
        def call() -> object:
            with torch.no_grad(), torch.autocast(device.type, dtype, dtype != torch.float32):
                return function(*leaves)

        return call

    times = alternate([forward(case.twin), forward(case.kernel)], repeats, device)
    with torch.autocast(device.type, dtype, dtype != torch.float32):
        wanted, found = case.twin(*leaves), case.kernel(*leaves)
    joined = torch.cat([part.flatten(1) for part in wanted], dim=1)
    gap = difference((found.flatten(1),), (joined,))
    rows = [row(case.name, "forward", times, gap, (*leaves, found))]

    gradient = torch.randn_like(found)
    sizes = [part.shape[1] for part in wanted]
    pieces = [g.to(w) for g, w in zip(gradient.split(sizes, dim=1), wanted, strict=True)]

    def kernel() -> Tensors:
        return torch.autograd.grad(found, leaves, gradient, retain_graph=True)

    def twin() -> Tensors:
        return torch.autograd.grad(wanted, leaves, pieces, retain_graph=True)

    times = alternate([twin, kernel], repeats, device)
    gap = difference(kernel(), twin())
    rows.append(row(case.name, "backward", times, gap, (*leaves, *leaves, found)))
    return rows


def row(name: str, which: str, times, gap: float, moved: Tensors) -> str:
    twin, kernel = (statistics.median(series) for series in times)
    spreads = [f"{1e3 * min(s):.3g} to {1e3 * max(s):.3g}" for s in times]
    rate = sum(t.numel() * t.element_size() for t in moved) / kernel / 1e9
    return (
        f"| {name} | {which} | {1e3 * twin:.3g} ({spreads[0]}) | {1e3 * kernel:.3g} ({spreads[1]})"
        f" | {twin / kernel:.2f} | {gap:.0e} | {rate:.3g} |"
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
    if not (choice.triton_works(device) if device.type == "cuda" else choice.numba_works()):
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
            for line in rows_of(case, dtype, options.repeats, device):
                print(line, flush=True)


if __name__ == "__main__":
    main()
