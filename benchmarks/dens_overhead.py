"""Time of a training step with DeNS over one without, at the paper's settings.

    python benchmarks/dens_overhead.py [--repeats 5] [--structures 2] [--threads 1]

Both models have the OC20-2M base setting (Table 7); steps of the two alternate in one run, on
the same batch of the embedded sample's frames. A step is forward, loss, backward and AdamW; with
DeNS also checking the labels, drawing and applying the corruption, and the figures of the report.
Printed are medians, spreads and the ratio (the DeNS paper: 1501 / 1398 GPU-hours = 1.074). Times
are of the processor, not of the clock, so that other work on the machine counts less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import hydra
import torch
from fairchem.core._cli import get_hydra_config_from_yaml
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch
from fairchem.core.units.mlip_unit.mlip_unit import compute_loss

from eqv2_plugin.data.sample import load_sample
from eqv2_plugin.dens.checks import check_denoising_batch
from eqv2_plugin.dens.config import DenoisingConfig
from eqv2_plugin.dens.corruption import NOISE_TARGET, corrupt_batch, draw_corruption
from eqv2_plugin.dens.monitor import DenoisingMonitor

CONFIGS = Path(__file__).parents[1] / "configs"


class Step:
    """One training step of a recipe, without the runner around it."""

    def __init__(self, config: str, scale: str) -> None:
        unit = get_hydra_config_from_yaml(str(CONFIGS / config), [scale]).runner.train_eval_unit
        torch.manual_seed(0)
        self.model = hydra.utils.instantiate(unit.model).train()
        self.tasks = [hydra.utils.instantiate(task) for task in unit.tasks]
        for task in self.tasks:
            task.loss_fn.level = task.level
        self.denoising = None
        if "denoising" in unit:
            self.denoising = DenoisingConfig.from_options(dict(unit.denoising))
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-6)
        self.generator = torch.Generator().manual_seed(0)
        self.monitor = DenoisingMonitor()

    def __call__(self, batch: AtomicData) -> float:
        start = time.process_time()
        original = batch
        if self.denoising is not None:
            check_denoising_batch(batch)
            corruption = draw_corruption(self.denoising, batch, self.generator)
            batch = corrupt_batch(batch, corruption, self.denoising)
        else:
            batch = batch.clone()
        outputs = self.model(batch)
        loss = sum(compute_loss(self.tasks, outputs, batch).values())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.denoising is not None:
            tasks = {task.name: task for task in self.tasks}
            self.monitor.update(original, corruption, tasks)
        return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--structures", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    frames = load_sample("oc20_sample", "train")
    picked = [frames[i * len(frames) // options.structures] for i in range(options.structures)]
    batch = atomicdata_list_to_batch([AtomicData.from_ase(a, task_name="oc20") for a in picked])
    batch.dataset_name = ["oc20.train"] * len(picked)
    batch[NOISE_TARGET] = torch.full_like(batch.forces, torch.inf)
    steps = {
        "plain": Step("eqv2_oc20.yml", "scale=oc20_2m"),
        "DeNS": Step("eqv2_dens_oc20.yml", "scale=oc20_2m_12ep"),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(options.repeats + 1):
        for name, step in steps.items():
            elapsed = step(batch)
            if repeat:  # the first round warms up
                times[name].append(elapsed)
    print(f"{len(batch.pos)} atoms in {len(picked)} structures, {options.threads} thread(s), CPU")
    print("| step | median CPU s | smallest | largest |")
    print("|---|---|---|---|")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.4f} | {min(values):.4f} | {max(values):.4f} |")
    ratios = [d / p for d, p in zip(times["DeNS"], times["plain"], strict=True)]
    middle = statistics.median(ratios)
    print(f"\nratio: median {middle:.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


if __name__ == "__main__":
    main()
