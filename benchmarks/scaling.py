"""Cost against atoms, edges, degree and batch size; and what else a training step spends.

    python benchmarks/scaling.py [--quick] [--device cpu] [--out runs/scaling]

Inference of the sizes of Table 7 with random weights on Cu(111) slabs. Prints Markdown tables and
draws one picture. The last tables are a training step taken apart, and training on two processes:
their efficiency is the ratio of structures per second to that of one process, halved, with the same
structures per process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib
import torch
import torch.distributed
import torch.multiprocessing
from compare.cases import slab
from compare.report import processor, table
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch

from eqv2_plugin.graphs.build import build_graph
from eqv2_plugin.models.hydra import EquiformerV2

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HEADS = {
    "energy": {"module": "eqv2_plugin.heads.energy.EnergyHead"},
    "forces": {"module": "eqv2_plugin.heads.forces.ForceHead"},
}


def model(device: str, **backbone: object) -> EquiformerV2:
    torch.manual_seed(0)
    name = "eqv2_plugin.backbones.equiformer_v2.backbone.EquiformerV2Backbone"
    built = EquiformerV2(backbone={"model": name, **backbone}, heads=HEADS)
    return built.eval().to(device)


def batch_of(count: int, layers: tuple[int, int, int], device: str) -> AtomicData:
    frames = [slab(layers, 1, seed) for seed in range(count)]
    data = [AtomicData.from_ase(atoms, task_name="oc20") for atoms in frames]
    return atomicdata_list_to_batch(data).to(device)


def seconds(work: Callable[[], object], repeats: int, device: str) -> float:
    """Median clock time of a call, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def inference(built: EquiformerV2, batch: AtomicData, repeats: int, device: str) -> float:
    with torch.no_grad():
        return seconds(lambda: built(batch.clone()), repeats, device)


def training_step(built: torch.nn.Module, batch: AtomicData) -> Callable[[], None]:
    optimizer = torch.optim.AdamW([p for p in built.parameters() if p.requires_grad], lr=1e-9)

    def step() -> None:
        out = built(batch.clone())
        loss = sum(value.abs().mean() for head in out.values() for value in head.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def edges_of(built: EquiformerV2, batch: AtomicData) -> int:
    return len(build_graph(batch.clone(), built.backbone.config).vectors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few small points")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=Path("runs/scaling"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
    name = torch.cuda.get_device_name() if options.device == "cuda" else processor()
    lines = [f"{name}, {options.threads} thread(s), torch {torch.__version__}, fp32, inference."]
    small = {"lmax": 4, "mmax": 2, "num_layers": 8}

    sizes = [(2, 2, 4), (3, 3, 4), (4, 4, 4)]
    if not options.quick:
        sizes += [(6, 6, 4), (8, 8, 4), (11, 11, 4)]
    built = model(options.device, **small)
    points = []
    for layers in sizes:
        batch = batch_of(1, layers, options.device)
        spent = inference(built, batch, options.repeats, options.device)
        points.append((len(batch.pos), edges_of(built, batch), spent))
    lines += _table("Atoms (31M)", ("atoms", "edges", "s", "us per edge"), [
        (atoms, edges, f"{t:.3f}", f"{1e6 * t / edges:.0f}") for atoms, edges, t in points
    ])  # fmt: skip
    axes[0].plot([p[0] for p in points], [p[2] for p in points], "o-")
    axes[0].set(xlabel="atoms of one slab", ylabel="seconds (31M)")

    batch = batch_of(1, (3, 3, 4), options.device)
    points = []
    for neighbours in (5, 10, 20) if options.quick else (5, 10, 20, 40, 80):
        one = model(options.device, **small, max_neighbors=neighbours)
        edges = edges_of(one, batch)
        points.append((edges, inference(one, batch, options.repeats, options.device)))
    lines += _table("Edges (31M, 38 atoms)", ("edges", "s", "us per edge"), [
        (edges, f"{t:.3f}", f"{1e6 * t / edges:.0f}") for edges, t in points
    ])  # fmt: skip
    axes[1].plot([p[0] for p in points], [p[1] for p in points], "o-")
    axes[1].set(xlabel="edges (38 atoms)", ylabel="seconds (31M)")

    points = []
    for lmax in (2, 4) if options.quick else (1, 2, 3, 4, 5, 6, 8):
        resolution = 20 if lmax == 8 else 18
        one = model(
            options.device, lmax=lmax, mmax=min(2, lmax), num_layers=4, grid_resolution=resolution
        )
        points.append((lmax, inference(one, batch, options.repeats, options.device)))
    lines += _table("Degree (4 blocks, M <= 2, 38 atoms)", ("L", "s"), [
        (lmax, f"{t:.3f}") for lmax, t in points
    ])  # fmt: skip
    axes[2].plot([p[0] for p in points], [p[1] for p in points], "o-")
    axes[2].set(xlabel="maximum degree L", ylabel="seconds (4 blocks)")

    points = []
    for count in (1, 2) if options.quick else (1, 2, 4, 8, 16):
        many = batch_of(count, (3, 3, 4), options.device)
        points.append((count, inference(built, many, options.repeats, options.device) / count))
    rows = [(count, f"{t:.3f}") for count, t in points]
    header = ("structures", "s per structure")
    lines += _table("Structures per batch (31M, 38 atoms each)", header, rows)
    axes[3].semilogx([p[0] for p in points], [p[1] for p in points], "o-", base=2)
    highest = 1.2 * max(p[1] for p in points)
    axes[3].set(xlabel="structures per batch", ylabel="s per structure", ylim=(0, highest))

    lines += _step_table(built, options.repeats, options.device)
    if options.device == "cpu":
        lines += _ranks_table(1 if options.quick else options.repeats)
    figure.savefig(options.out / "scaling.png", dpi=110)
    text = "\n".join(lines)
    (options.out / "scaling.md").write_text(text + "\n")
    print(text)


def _step_table(built: EquiformerV2, repeats: int, device: str) -> list[str]:
    """Parts of a training step of four 70-atom slabs."""
    frames = [slab((4, 4, 4), 3, seed) for seed in range(4)]

    def load() -> AtomicData:
        data = [AtomicData.from_ase(atoms, task_name="oc20") for atoms in frames]
        return atomicdata_list_to_batch(data).to(device)

    batch = load()
    step = training_step(built.train(), batch)
    config = built.backbone.config
    parts = {
        "making the batch": seconds(load, repeats, device),
        "graph": seconds(lambda: build_graph(batch.clone(), config), repeats, device),
        "whole step without the batch": seconds(step, repeats, device),
    }
    whole = parts["making the batch"] + parts["whole step without the batch"]
    rows = [(name, f"{t:.4f}", f"{100 * t / whole:.2f} %") for name, t in parts.items()]
    return _table("Training step (31M, four 70-atom slabs)", ("part", "s", "share"), rows)


def _ranks_table(repeats: int) -> list[str]:
    """One process and two, one thread and two 38-atom slabs each."""
    spent = {}
    for ranks in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            arguments = (ranks, repeats, folder)
            torch.multiprocessing.spawn(_train_rank, arguments, nprocs=ranks)
            spent[ranks] = float((Path(folder) / "seconds").read_text())
    efficiency = spent[1] / spent[2]
    rows = [(ranks, f"{t:.2f}") for ranks, t in spent.items()]
    title = f"Data-parallel training (31M, CPU): efficiency of two processes {efficiency:.0%}"
    return _table(title, ("processes", "s per step"), rows)


def _train_rank(rank: int, ranks: int, repeats: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", store, rank=rank, world_size=ranks)
    built = model("cpu", lmax=4, mmax=2, num_layers=8).train()
    parallel = torch.nn.parallel.DistributedDataParallel(built)
    spent = seconds(training_step(parallel, batch_of(2, (3, 3, 4), "cpu")), repeats, "cpu")
    if rank == 0:
        (Path(folder) / "seconds").write_text(str(spent))
    torch.distributed.destroy_process_group()


def _table(title: str, header: tuple[str, ...], rows: list[tuple]) -> list[str]:
    return ["", f"### {title}", "", *table(header, rows)]


if __name__ == "__main__":
    main()
