"""Predictions of a unit's evaluation model over a data loader, in physical units."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from fairchem.core.common import distutils
from fairchem.core.common.distutils import get_device_for_local_rank
from fairchem.core.units.mlip_unit.mlip_unit import MLIPTrainEvalUnit, Task

from eqv2_plugin.common.progress import short_bar
from eqv2_plugin.data.labels import LABELS, SCALAR
from eqv2_plugin.training import scalar_report
from eqv2_plugin.training.data_sets import data_set_of, data_sets_of, shown_split, tasks_of

STRESS_MAE = "stress_mae_meV_per_A3"
MAE_PER_ATOM = "energy_mae_meV_per_atom"
FORCE_RMSE = "forces_rmse_meV_per_A"
_LABELS = (*LABELS, SCALAR)
# What frames are merged by, and what goes with each.
_PER_FRAME = (*_LABELS, "natoms", "numbers")


@dataclass
class SplitPredictions:
    """Targets and predictions of one split."""

    energy: list[np.ndarray] = field(default_factory=list)  # [frames, 2] target and prediction, eV
    # [free atoms, 2, 3] target and prediction, eV/Å; empty without that task
    forces: list[np.ndarray] = field(default_factory=list)
    # [frames, 2, 9] target and prediction, eV/Å^3; empty without that task
    stress: list[np.ndarray] = field(default_factory=list)
    # [frames, 2] target and prediction of a property that is no energy; empty without that task
    scalar: list[np.ndarray] = field(default_factory=list)
    sids: list[str] = field(default_factory=list)  # one per frame
    natoms: list[int] = field(default_factory=list)  # one per frame
    numbers: list[np.ndarray] = field(default_factory=list)  # [free atoms] of each frame

    def metrics(self) -> dict[str, float]:
        """Mean absolute and root mean square errors, and the mean cosine between forces.

        Of energies in meV and meV per atom, of components of forces on free atoms in meV/Å, of
        components of the stress in meV/Å^3.
        """
        if self.scalar:
            return scalar_report.scalar_metrics(self.scalar) | {"frames": len(self.sids)}
        energy = np.concatenate(self.energy)
        errors = 1e3 * (energy[:, 1] - energy[:, 0]).astype(float)
        per_atom = errors / np.array(self.natoms)
        found = {
            "energy_mae_meV": _mae(errors),
            "energy_rmse_meV": _rmse(errors),
            MAE_PER_ATOM: _mae(per_atom),
            "energy_rmse_meV_per_atom": _rmse(per_atom),
        }
        if self.forces:
            forces = np.concatenate(self.forces)
            target, predicted = forces[:, 0], forces[:, 1]
            norms = np.linalg.norm(target, axis=1) * np.linalg.norm(predicted, axis=1)
            cosine = (target * predicted).sum(1) / np.maximum(norms, 1e-12)
            found["forces_mae_meV_per_A"] = _mae(1e3 * (predicted - target))
            found[FORCE_RMSE] = _rmse(1e3 * (predicted - target))
            found["forces_cosine"] = float(cosine.mean())
        if self.stress:
            stress = np.concatenate(self.stress)
            found[STRESS_MAE] = _mae(1e3 * (stress[:, 1] - stress[:, 0]))
        return found | {"frames": len(self.sids)}


def predict_splits(unit: MLIPTrainEvalUnit, dataloader) -> dict[str, SplitPredictions]:
    """Run the evaluation model (EMA weights, if there are) over a loader of labelled frames.

    A bar shows how far it is.

    Returns:
        Predictions per split (`shown_split`), each by the tasks of its data set, gathered from all
        ranks.
    """
    device = get_device_for_local_rank()
    tasks = {name: tasks_of(unit.tasks, name) for name in data_sets_of(unit.tasks)}
    model = unit.eval_unit.model
    was_training = model.training
    model.eval()
    splits: dict[str, SplitPredictions] = {}
    with torch.no_grad():
        for batch in short_bar(dataloader, "predicting "):
            batch = batch.to(device)
            outputs = model(batch)
            # A task of no data set has labels of training batches alone (DeNS).
            labelled = [task for task in unit.tasks if task.datasets]
            values = {task.name: _physical(task, outputs, batch) for task in labelled}
            free = batch.fixed == 0
            for index, name in enumerate(batch.dataset_name):
                split = splits.setdefault(shown_split(name, unit.tasks), SplitPredictions())
                own = tasks[data_set_of(name)]
                atoms = (batch.batch == index) & free
                split.sids.append(batch.sid[index])
                split.natoms.append(int(batch.natoms[index]))
                split.numbers.append(batch.atomic_numbers[atoms].cpu().numpy())
                for label in _LABELS:
                    if label not in own:
                        continue
                    value = values[own[label].name]
                    rows = atoms if label == "forces" else [index]
                    target = batch[own[label].name][rows]
                    pair = torch.stack((target, value[rows].to(target.dtype)), dim=1)
                    getattr(split, label).append(pair.detach().cpu().numpy())
    model.train(was_training)
    return _gathered(splits)


def evaluated_metrics(unit: MLIPTrainEvalUnit) -> dict[str, dict[str, float]]:
    """Metrics of fairchem's last evaluation per split, summed over the ranks.

    Root mean squares are among them where a task counts squares ("mse"), as earlier ones did not.
    """
    device = get_device_for_local_rank()

    def mean(task: str, dataset: str, metric: str) -> float:
        part = unit.eval_unit.running_metrics[task][dataset][metric]
        total = distutils.all_reduce(part.total, average=False, device=device)
        count = distutils.all_reduce(part.numel, average=False, device=device)
        return float(total) / max(float(count), 1.0)

    def rmse(task: str, dataset: str, name: str) -> dict[str, float]:
        counted = "mse" in unit.eval_unit.running_metrics[task][dataset]
        return {name: 1e3 * math.sqrt(mean(task, dataset, "mse"))} if counted else {}

    found: dict[str, dict[str, float]] = {}
    for name in data_sets_of(unit.tasks):
        tasks = {label: task.name for label, task in tasks_of(unit.tasks, name).items()}
        leading = tasks.get(SCALAR, tasks.get("energy"))
        for dataset in sorted(unit.eval_unit.running_metrics.get(leading, ())):
            # fairchem also looks for a data set in the names of others.
            if data_set_of(dataset) != name:
                continue
            split = found[shown_split(dataset, unit.tasks)] = {}
            if SCALAR in tasks:
                split[scalar_report.MAE] = mean(tasks[SCALAR], dataset, "mae")
                continue
            split["energy_mae_meV"] = 1e3 * mean(tasks["energy"], dataset, "mae")
            split |= rmse(tasks["energy"], dataset, "energy_rmse_meV")
            if "per_atom_mae" in unit.eval_unit.running_metrics[tasks["energy"]][dataset]:
                split[MAE_PER_ATOM] = 1e3 * mean(tasks["energy"], dataset, "per_atom_mae")
            if "forces" in tasks:
                split["forces_mae_meV_per_A"] = 1e3 * mean(tasks["forces"], dataset, "mae")
                split |= rmse(tasks["forces"], dataset, FORCE_RMSE)
                split["forces_cosine"] = mean(tasks["forces"], dataset, "cosine_similarity")
            if "stress" in tasks:
                split[STRESS_MAE] = 1e3 * mean(tasks["stress"], dataset, "mae")
    return found


def _physical(task: Task, outputs: dict, batch) -> torch.Tensor:
    value = task.normalizer.denorm(outputs[task.name][task.property])
    if task.element_references is not None:
        value = task.element_references.undo_refs(batch, value)
    return value


def _gathered(splits: dict[str, SplitPredictions]) -> dict[str, SplitPredictions]:
    """Merge the ranks; a frame that padding gave to two ranks counts once."""
    if distutils.get_world_size() == 1:
        return splits
    parts: list = [None] * distutils.get_world_size()
    torch.distributed.all_gather_object(parts, splits)
    merged: dict[str, SplitPredictions] = {}
    for part in parts:
        for name, split in part.items():
            target = merged.setdefault(name, SplitPredictions())
            seen = set(target.sids)
            for index, sid in enumerate(split.sids):
                if sid in seen:
                    continue
                seen.add(sid)
                target.sids.append(sid)
                for label in _PER_FRAME:
                    getattr(target, label).extend(getattr(split, label)[index : index + 1])
    return merged


def _mae(errors: np.ndarray) -> float:
    return float(np.abs(errors).mean())


def _rmse(errors: np.ndarray) -> float:
    return float(np.sqrt(np.square(errors, dtype=float).mean()))
