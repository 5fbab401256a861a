"""Baselines that a force model must beat: zero forces, and the nearest training frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from fairchem.core.datasets.atomic_data import AtomicData
from fairchem.core.units.mlip_unit.mlip_unit import Task
from torch.utils.data import Dataset

from eqv2_plugin.data.inspection.frames import minimum_image
from eqv2_plugin.training.data_sets import data_set_of, shown_split, tasks_of


def baselines(
    train: Dataset, validation: Dataset, tasks: Sequence[Task] = ()
) -> dict[str, dict[str, float | None]]:
    """Force and energy MAE of the baselines per split of ``validation`` (`shown_split`).

    The nearest frame, of the same data set, has None for a split whose systems do not occur in
    ``train``. A data set that is trained without forces has no baselines.

    Args:
        tasks: of the run, which say what the labels of each data set are called.
    """
    by_system: dict[tuple, list[AtomicData]] = {}
    for index in range(len(train)):
        frame = train[index]
        by_system.setdefault(_system(frame), []).append(frame)
    # Per split: errors of zero forces, and of the nearest frame's forces and energies.
    errors: dict[str, tuple[list, list, list]] = {}
    for index in range(len(validation)):
        frame = validation[index]
        own = tasks_of(tasks, data_set_of(frame.dataset_name))
        if own and "forces" not in own:
            continue
        of_energy, of_forces = (own[label].name if own else label for label in ("energy", "forces"))
        split = shown_split(frame.dataset_name, tasks)
        zero, near_forces, near_energy = errors.setdefault(split, ([], [], []))
        free, forces, cell = frame.fixed == 0, getattr(frame, of_forces), frame.cell
        energy = getattr(frame, of_energy).double()
        zero.append(forces[free].abs().ravel().numpy())
        known = by_system.get(_system(frame), [])
        if same_cell := [k for k in known if np.allclose(k.cell, cell, atol=1e-3)]:
            nearest = min(same_cell, key=lambda other: displacement(frame, other))
            near_forces.append((forces - getattr(nearest, of_forces))[free].abs().ravel().numpy())
            near_energy.append((energy - getattr(nearest, of_energy).double()).abs().numpy())

    def mean(values: list[np.ndarray]) -> float | None:
        return float(1e3 * np.concatenate(values).mean()) if values else None

    return {
        split: {
            "zero_forces_mae_meV_per_A": mean(zero),
            "nearest_frame_forces_mae_meV_per_A": mean(near_forces),
            "nearest_frame_energy_mae_meV": mean(near_energy),
        }
        for split, (zero, near_forces, near_energy) in errors.items()
    }


def _system(frame: AtomicData) -> tuple:
    return data_set_of(frame.dataset_name), *frame.atomic_numbers.tolist()


def displacement(first: AtomicData, second: AtomicData) -> float:
    """Root mean square distance in Å between two frames with the same atoms, nearest images."""
    steps = first.pos.numpy().astype(float) - second.pos.numpy().astype(float)
    steps = minimum_image(steps, first.cell[0].numpy().astype(float), first.pbc[0].numpy())
    return float(np.sqrt((steps**2).sum(1).mean()))
