"""A process that takes steps of small systems with the package that is first on its path.

It imports nothing of the package that other versions lack, but for compiled steps.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import torch
from ase import units
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from fairchem.core._cli import get_hydra_config_from_yaml
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch
from fairchem.core.units.mlip_unit.mlip_unit import compute_loss
from torch.utils._python_dispatch import TorchDispatchMode

from eqv2_plugin.data.sample import load_sample

FS = units.fs


class Operators(TorchDispatchMode):
    """Counts the operators that run within."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        Operators.count += 1
        return function(*arguments, **(options or {}))


class TrainingStep:
    """Of a recipe on frames of its sample: forward, loss, backward, AdamW."""

    def __init__(self, config: Path, sample: str, task: str, compiled: bool) -> None:
        unit = get_hydra_config_from_yaml(str(config), []).runner.train_eval_unit
        torch.manual_seed(0)
        self.model = hydra.utils.instantiate(unit.model).train()
        self.tasks = [hydra.utils.instantiate(one) for one in unit.tasks]
        for one in self.tasks:
            one.loss_fn.level = one.level
        options = {"lr": 1e-6, "fused": unit.optimizer_fn.get("fused")}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), **options)
        frames = load_sample(sample, "train")
        picked = [frames[i * len(frames) // 4] for i in range(4)]
        batch = atomicdata_list_to_batch([AtomicData.from_ase(a, task_name=task) for a in picked])
        batch.dataset_name = [f"{task}.train"] * len(picked)
        generator = torch.Generator().manual_seed(0)
        if len(self.tasks) == 3:  # DeNS: a fifth of the atoms is corrupted
            some = torch.rand(len(batch.pos), 1, generator=generator) < 0.2
            batch["encoded_forces"] = batch.forces * some
            batch["noise_sigma"] = torch.full((len(batch.pos),), 0.1)
            noise = torch.randn(len(batch.pos), 3, generator=generator)
            batch["noise_forces"] = torch.where(some, noise, torch.nan)
        self.batch = batch
        if compiled:
            from eqv2_plugin.models.region import CompiledRegion

            self.model.region = CompiledRegion()

    def __call__(self) -> None:
        batch = self.batch.clone()
        outputs = self.model(batch)
        loss = sum(compute_loss(self.tasks, outputs, batch).values())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


class MolecularDynamics:
    """Velocity Verlet of ethanols at 300 K in one batch, with the recipe's untrained model."""

    def __init__(self, config: Path, sample: str, task: str, replicas: int, compiled: bool) -> None:
        unit = get_hydra_config_from_yaml(str(config), []).runner.train_eval_unit
        torch.manual_seed(0)
        self.model = hydra.utils.instantiate(unit.model).eval().requires_grad_(False)
        frames = load_sample(sample, "train")[:replicas]
        self.batch = atomicdata_list_to_batch(
            [AtomicData.from_ase(atoms, task_name=task) for atoms in frames]
        )
        self.masses = torch.tensor(np.concatenate([a.get_masses() for a in frames]))[:, None]
        for atoms in frames:
            MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=np.random.default_rng(0))
        self.momenta = torch.tensor(np.concatenate([a.get_momenta() for a in frames]))
        self.positions = torch.tensor(np.concatenate([a.positions for a in frames]))
        if compiled:
            from eqv2_plugin.graphs.padding import bucket_of_copies
            from eqv2_plugin.models.region import CompiledRegion

            atoms = len(frames[0])
            sizes = bucket_of_copies(replicas, atoms, atoms * (atoms - 1))
            self.model.region = CompiledRegion(predicts=True, sizes=sizes)

    def __call__(self) -> None:
        batch = self.batch.clone()
        batch.pos = self.positions.float()
        with torch.no_grad():
            forces = self.model(batch)["forces"]["forces"].detach().double()
        # 1e-3 of the force: an untrained model would tear the molecule apart.
        self.momenta += 1e-3 * forces * FS
        self.positions += 0.1 * FS * self.momenta / self.masses


CASES: dict[str, Callable[..., Callable[[], None]]] = {
    "training": TrainingStep,
    "dynamics": MolecularDynamics,
}


def answer(steps: dict[str, Callable[[], None]], request: dict[str, Any]) -> dict[str, Any]:
    """Prepare a case (the first step, which may compile), or take some steps of it."""
    name = request["name"]
    if request["do"] == "prepare":
        start = time.perf_counter()
        step = CASES[request["kind"]](Path(request["config"]), *request["arguments"])
        step()
        steps[name] = step
        seconds = time.perf_counter() - start
        Operators.count = 0
        if not request["arguments"][-1]:
            with Operators():
                step()
        return {"seconds": seconds, "operators": Operators.count}
    times = []
    for _ in range(request["count"]):
        start = time.process_time()
        steps[name]()
        times.append(time.process_time() - start)
    return {"seconds": statistics.median(times)}


def main() -> None:
    torch.set_num_threads(1)
    answers, sys.stdout = sys.stdout, sys.stderr
    steps: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        try:
            found = answer(steps, json.loads(line))
        except Exception:
            found = {"error": traceback.format_exc()}
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
