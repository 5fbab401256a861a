"""Equiformer beside the same network assembled from e3nn's modules, on one processor.

    python benchmarks/equiformer_v1.py [--lmax 2] [--repeats 5] [--frames 4] [--threads 1]

Both hold the same weights, at the full width of the MD17 models, and compute on the same edges of
embedded aspirin frames: energy and forces of one frame, and a training step (energies, forces with
their graph, loss, backward pass) of several. They take turns in one process; times are of the
processor, not of the clock. Printed are medians, the ratio of each turn with its spread, and the
largest relative difference of energies and forces in float64 (e3nn's tables are of float32).
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import numpy as np
import torch
from e3nn_equiformer import E3nnEquiformer

from eqv2_plugin.backbones.equiformer_v1.backbone import EquiformerV1Backbone
from eqv2_plugin.checkpoints.equiformer_v1.weights import convert_state
from eqv2_plugin.data.sample import load_sample
from eqv2_plugin.graphs.build import Graph
from eqv2_plugin.layers.edges import sort_by_target

L3 = {
    "irreps_node": "128x0e+64x1e+64x2e+32x3e",
    "irreps_head": "32x0e+16x1e+16x2e+8x3e",
    "irreps_ffn": "384x0e+192x1e+192x2e+96x3e",
}


class Ours(torch.nn.Module):
    """Backbone and energy head."""

    def __init__(self, options: dict) -> None:
        super().__init__()
        self.backbone = EquiformerV1Backbone(**options)
        self.energy = self.backbone.scalar_network()

    def forward(self, vectors, edge_index, numbers):
        offsets = sort_by_target(edge_index, len(numbers))[1]
        graph = Graph(edge_index, vectors, offsets)
        emb = self.backbone.embed(graph, numbers, torch.zeros_like(numbers), 1)
        return self.energy(emb["node_embedding"])


def energy_and_forces(model, frames, training: bool):
    """Sum of the energies, and the forces [N, 3], with their graph in training."""
    positions, edge_index, numbers = frames
    positions = positions.detach().requires_grad_(True)
    energies = model(positions[edge_index[0]] - positions[edge_index[1]], edge_index, numbers)
    (gradient,) = torch.autograd.grad(energies.sum(), positions, create_graph=training)
    return energies, -gradient


def training_step(model, frames):
    model.zero_grad(set_to_none=True)
    energies, forces = energy_and_forces(model, frames, training=True)
    (energies.abs().mean() + 80.0 * forces.norm(dim=1).mean()).backward()


def batch(frames: np.ndarray, numbers: np.ndarray, cutoff: float):
    """Frames [F, N, 3] in Å as one graph."""
    positions = torch.tensor(frames.reshape(-1, 3), dtype=torch.float32)
    frame = torch.arange(len(frames)).repeat_interleave(len(numbers))
    near = torch.cdist(positions, positions) < cutoff
    near &= (frame[:, None] == frame) & ~torch.eye(len(positions), dtype=torch.bool)
    target, source = near.nonzero().T
    return positions, torch.stack((source, target)), torch.tensor(numbers).repeat(len(frames))


def alternate(name: str, ours, e3nn, repeats: int) -> None:
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for kept, function in zip(times, (ours, e3nn), strict=True):
            start = time.process_time()
            function()
            if repeat:  # the first turn plans products and fills caches
                kept.append(time.process_time() - start)
    ratios = [theirs / own for own, theirs in zip(*times, strict=True)]
    medians = [statistics.median(kept) for kept in times]
    print(
        f"{name}: ours {medians[0]:.3f} s, e3nn {medians[1]:.3f} s of processor time, "
        f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lmax", type=int, choices=(2, 3), default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--frames", type=int, default=4, help="of a training step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--molecule", choices=("aspirin", "ethanol"), default="aspirin")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    atoms = load_sample(f"rmd17_{options.molecule}", "train")[: options.frames]
    structures, numbers = np.array([frame.positions for frame in atoms]), atoms[0].numbers
    ours = Ours(L3 if options.lmax == 3 else {})
    config = ours.backbone.config
    e3nn = E3nnEquiformer(config)
    state = convert_state(e3nn.authors_state(), config, scalar_head="energy", convention="e3nn_0.5")
    ours.load_state_dict(state, strict=True)
    one, several = (batch(structures[:n], numbers, config.cutoff) for n in (1, options.frames))
    exact = [copy.deepcopy(model).double() for model in (ours, e3nn)]
    positions, *graph = one
    found, wanted = (energy_and_forces(m, (positions.double(), *graph), False) for m in exact)
    differences = [
        float(((a - b).abs().max() / b.abs().max()).detach())
        for a, b in zip(found, wanted, strict=True)
    ]
    print(
        f"{options.molecule}, L={options.lmax}: {len(numbers)} atoms, {one[1].shape[1]} edges; "
        f"largest relative difference in float64 of energies {differences[0]:.1e}, "
        f"of forces {differences[1]:.1e}"
    )
    alternate(
        "energy and forces",
        lambda: energy_and_forces(ours, one, training=False),
        lambda: energy_and_forces(e3nn, one, training=False),
        options.repeats,
    )
    alternate(
        f"training step of {options.frames} frames",
        lambda: training_step(ours, several),
        lambda: training_step(e3nn, several),
        options.repeats,
    )


if __name__ == "__main__":
    main()
