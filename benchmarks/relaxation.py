"""Relaxing structures in batches against one by one with ASE and FAIRChemCalculator.

    python benchmarks/relaxation.py --checkpoint CKPT.pt [--structures 64] [--steps 20]
                                    [--batch 8] [--device cpu] [--threads 1] [--quick]

Structures are the first frames of the embedded OC20 sample, each with small seeded random
displacements. They are cut into groups; of each group the two ways take turns, so that other work
on the machine meets both. Every structure takes the same number of steps (fmax is far below what
the model reaches). Compared are steps, energies and positions; times are of the processor (and
of the clock), memory is the rise above the model's own. With --precision float64 results agree to
1e-6 Å; in float32 batches round differently.
"""

from __future__ import annotations

import argparse
import cProfile
import logging
import pstats
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from fairchem.core import FAIRChemCalculator

from eqv2_plugin.data.sample import load_sample
from eqv2_plugin.inference.batch_size import BatchLimit, PeakMemory
from eqv2_plugin.inference.lockstep import relax_many
from eqv2_plugin.inference.predictor import BatchPredictor, choose_task, open_unit
from eqv2_plugin.inference.settings import RelaxationSettings

Job = list[tuple[str, Atoms]]


@dataclass
class Outcome:
    """Of one structure."""

    steps: int
    energy: float
    positions: np.ndarray


@dataclass
class Timing:
    """Of one way on one group."""

    processor: float
    wall: float
    memory: int


def structures(count: int) -> Job:
    first: dict[str, Atoms] = {}
    for atoms in load_sample("oc20_sample", "train"):
        first.setdefault(atoms.info["sid"], atoms)
    frames = list(first.values())
    made = []
    for number in range(count):
        atoms = frames[number % len(frames)].copy()
        atoms.rattle(0.03, seed=number)
        made.append((f"{atoms.info['sid']}-{number}", atoms))
    return made


def one_by_one(
    job: Job, calculator: FAIRChemCalculator, settings: RelaxationSettings
) -> dict[str, Outcome]:
    found = {}
    for identity, start in job:
        atoms = start.copy()
        atoms.calc = calculator
        optimizer = settings.make_optimizer(atoms)
        optimizer.run(fmax=settings.fmax, steps=settings.steps)
        energy = atoms.get_potential_energy()
        found[identity] = Outcome(optimizer.nsteps, energy, atoms.positions.copy())
    return found


def batched(
    job: Job, predict: BatchPredictor, settings: RelaxationSettings, size: int
) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    for r in relax_many(job, predict, settings, batch=BatchLimit(structures=size)):
        if r.id in found or r.failed:
            raise RuntimeError(f"{r.id} came twice, or failed: {r.error}")
        found[r.id] = Outcome(r.steps, r.energy, r.atoms.positions)
    return found


def timed(work: Callable[[], dict[str, Outcome]], device: Any) -> tuple[dict[str, Outcome], Timing]:
    wall, processor = time.perf_counter(), time.process_time()
    with PeakMemory(device) as peak:
        found = work()
    spent = time.process_time() - processor
    return found, Timing(spent, time.perf_counter() - wall, peak.bytes)


def optimizer_share(work: Callable[[], Any]) -> dict[str, float]:
    """Shares of the profiled time: model call, batch building, the rest of the loop."""
    profile = cProfile.Profile()
    profile.runcall(work)
    spent: dict[str, float] = {}
    total = 0.0
    for (file, _, name), (_, _, _, cumulative, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        if name == "relax_many":
            total = cumulative
        elif name == "collated_predict":
            spent["model"] = cumulative
        elif name in ("from_ase", "atomicdata_list_to_batch"):
            spent["batch building"] = spent.get("batch building", 0.0) + cumulative
        elif name == "step" and "optimize" in file:
            spent["optimizer"] = cumulative
    return {name: value / total for name, value in spent.items()}


def compare(expected: dict[str, Outcome], found: dict[str, Outcome]) -> tuple[int, float, float]:
    """Structures with other steps, largest energy and position difference of the others."""
    if sorted(expected) != sorted(found):
        raise RuntimeError("structures were lost or doubled")
    pairs = [(expected[key], found[key]) for key in expected]
    same = [(a, b) for a, b in pairs if a.steps == b.steps]
    energy = max((abs(a.energy - b.energy) for a, b in same), default=0.0)
    position = max((float(np.abs(a.positions - b.positions).max()) for a, b in same), default=0.0)
    return len(pairs) - len(same), energy, position


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--structures", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, nargs="+", default=[8])
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "float64"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="8 structures, 3 steps, 2 groups")
    options = parser.parse_args()
    if options.quick:
        options.structures, options.steps, options.groups = 8, 3, 2
    torch.set_num_threads(options.threads)
    logging.getLogger().setLevel(logging.ERROR)
    unit = open_unit(options.checkpoint, options.device, getattr(torch, options.precision))
    task = choose_task(unit, None)
    predict, calculator = BatchPredictor(unit, task), FAIRChemCalculator(unit, task_name=task)
    settings = RelaxationSettings(fmax=1e-6, steps=options.steps, maxstep=0.04, memory=50)
    job = structures(options.structures)
    sizes = {f"batches of {size}": size for size in options.batch}
    predict([atoms for _, atoms in job[: max(options.batch)]])  # warm up
    times: dict[str, list[Timing]] = {name: [] for name in ("one by one", *sizes)}
    differences: dict[str, list[tuple[int, float, float]]] = {name: [] for name in sizes}
    for group in range(options.groups):
        part = job[group :: options.groups]
        expected, timing = timed(lambda p=part: one_by_one(p, calculator, settings), options.device)
        times["one by one"].append(timing)
        for name, size in sizes.items():
            found, timing = timed(
                lambda p=part, s=size: batched(p, predict, settings, s), options.device
            )
            times[name].append(timing)
            differences[name].append(compare(expected, found))
    report(options, job, times, differences)
    share = optimizer_share(
        lambda: batched(job[:8], predict, settings, min(8, max(sizes.values())))
    )
    listed = ", ".join(f"{name} {100 * value:.1f} %" for name, value in share.items())
    print(f"\nOf a batched relaxation (profiled): {listed}.")


def report(
    options: argparse.Namespace,
    job: Job,
    times: dict[str, list[Timing]],
    differences: dict[str, list[tuple[int, float, float]]],
) -> None:
    atoms = sum(len(atoms) for _, atoms in job)
    print(
        f"{len(job)} structures, {atoms} atoms, {options.steps} steps each, {options.precision}, "
        f"{options.device}, {options.threads} thread(s)\n"
    )
    print(
        "| way | CPU s | wall s | CPU ratio | wall ratio | per group | memory MB | other steps | "
        "energy eV | positions Å |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    alone = times["one by one"]
    for name, values in times.items():
        cpu, wall = sum(v.processor for v in values), sum(v.wall for v in values)
        ratios = [a.processor / v.processor for a, v in zip(alone, values, strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}, median {statistics.median(ratios):.2f}"
        memory = max(v.memory for v in values) / 1e6
        end = "| | | |"
        if name in differences:
            steps, energy, positions = (list(c) for c in zip(*differences[name], strict=True))
            end = f"| {sum(steps)} | {max(energy):.1e} | {max(positions):.1e} |"
        print(
            f"| {name} | {cpu:.1f} | {wall:.1f} | {sum(a.processor for a in alone) / cpu:.2f} | "
            f"{sum(a.wall for a in alone) / wall:.2f} | {spread} | {memory:.0f} {end}"
        )


if __name__ == "__main__":
    main()
