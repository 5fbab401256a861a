"""Models and structures of a session, in the process that measures them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from compare.cases import WITH_TINY, slab
from compare.plugin_worker import Plugin
from compare.structure_arrays import arrays_of
from fairchem.core.datasets.atomic_data import AtomicData, atomicdata_list_to_batch
from fairchem.core.units.mlip_unit.utils import tf32_context_manager

from eqv2_plugin.checkpoints.native import write_native
from eqv2_plugin.checkpoints.record import NativeHeader, NativeModel, TaskRecord
from eqv2_plugin.models.hydra import EquiformerV2

ATOMS = {18: ((2, 2, 4), 1), 70: ((4, 4, 4), 3), 500: ((11, 11, 4), 8), 2000: ((22, 22, 4), 12)}


def slabs(count: int, atoms: int, first: int = 0) -> list[Atoms]:
    """Slabs of so many atoms each (of `ATOMS`), displaced by seeds from ``first`` on."""
    return [slab(*ATOMS[atoms], seed) for seed in range(first, first + count)]


def plugin(name: str, device: str, structures: list[Atoms]) -> Plugin:
    """A model of `WITH_TINY` with random weights, ready for these structures."""
    made = Plugin(recompute=False)
    torch.manual_seed(0)
    made.load(WITH_TINY[name], Path("no weights"))
    # Fresh models have zeros where mistakes would hide.
    with torch.no_grad():
        for key, parameter in made.model.named_parameters():
            if parameter.dim() <= 1 or "norm" in key:
                parameter.add_(0.1 * torch.randn_like(parameter))
    made.set_structures(arrays_of(structures), device)
    return made


def conservative(name: str, device: str, dtype: torch.dtype) -> EquiformerV2:
    """A model of the same size whose forces are gradients of its energy."""
    options = plugin(name, "cpu", slabs(1, 18)).options
    backbone = {**options["backbone"], "direct_forces": False}
    heads = {"head": {"module": "eqv2_plugin.heads.conservative.ConservativeHead"}}
    torch.manual_seed(0)
    return EquiformerV2(backbone=backbone, heads=heads).to(device, dtype).eval()


def batch_of(structures: list[Atoms], device: str, dtype: torch.dtype) -> AtomicData:
    """fairchem's batch."""
    parts = [
        AtomicData.from_ase(atoms, task_name="oc20", target_dtype=dtype) for atoms in structures
    ]
    return atomicdata_list_to_batch(parts).to(device)


def outputs(model: EquiformerV2, batch: AtomicData) -> dict[str, torch.Tensor]:
    """Energies [B] and forces [N, 3], on the CPU in float64."""
    with torch.no_grad():
        found = model(batch.clone())
    energy, forces = found["energy"]["energy"], found["forces"]["forces"]
    return {"energy": energy.double().cpu().view(-1), "forces": forces.double().cpu().view(-1, 3)}


def differences(
    found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> dict[str, float]:
    """Largest difference over the largest value, of energies and forces."""
    return {
        name: float((found[name] - value).abs().max() / value.abs().max())
        for name, value in expected.items()
    }


def precision(name: str, device: str) -> AbstractContextManager[object]:
    """fp32, tf32 or bf16, as fairchem's settings and trainer have them."""
    stack = ExitStack()
    stack.enter_context(tf32_context_manager(name == "tf32"))
    stack.enter_context(torch.autocast(device, torch.bfloat16, enabled=name == "bf16"))
    return stack


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def timed(work: Callable[[], Any], device: str) -> float:
    """Seconds of one call, the device's work included."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def random_checkpoint(name: str, path: Path) -> Path:
    """A native file of a model of `WITH_TINY` with random weights, made once."""
    if not path.exists():
        made = plugin(name, "cpu", slabs(1, 18))
        tasks = tuple(
            TaskRecord(what, level, what, dim, "float32", ("oc20",), 0.0, 1.0, False)
            for what, level, dim in (("energy", "system", (1,)), ("forces", "atom", (3,)))
        )
        config = {"_target_": "eqv2_plugin.models.hydra.EquiformerV2", **made.options}
        header = NativeHeader(config, tasks)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_native(NativeModel(header, made.model.state_dict(), {}), path)
    return path
