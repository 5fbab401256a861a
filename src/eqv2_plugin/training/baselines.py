"""Baselines that a force model must beat: zero forces, and the nearest training frame."""

from __future__ import annotations

import numpy as np
from fairchem.core.datasets.atomic_data import AtomicData
from torch.utils.data import Dataset

from eqv2_plugin.data.inspection.frames import minimum_image


def baselines(train: Dataset, validation: Dataset) -> dict[str, dict[str, float | None]]:
    """Force and energy MAE of the baselines per split of ``validation``.

    The nearest frame's are None for a split whose systems do not occur in ``train``.
    """
    by_system: dict[tuple, list[AtomicData]] = {}
    for index in range(len(train)):
        frame = train[index]
        by_system.setdefault(tuple(frame.atomic_numbers.tolist()), []).append(frame)
    # Per split: errors of zero forces, and of the nearest frame's forces and energies.
    errors: dict[str, tuple[list, list, list]] = {}
    for index in range(len(validation)):
        frame = validation[index]
        split = frame.dataset_name.split(".", 1)[1]
        zero, near_forces, near_energy = errors.setdefault(split, ([], [], []))
        free, forces, cell = frame.fixed == 0, frame.forces, frame.cell
        zero.append(forces[free].abs().ravel().numpy())
        known = by_system.get(tuple(frame.atomic_numbers.tolist()), [])
        if same_cell := [k for k in known if np.allclose(k.cell, cell, atol=1e-3)]:
            nearest = min(same_cell, key=lambda other: displacement(frame, other))
            near_forces.append((forces - nearest.forces)[free].abs().ravel().numpy())
            near_energy.append((frame.energy.double() - nearest.energy.double()).abs().numpy())

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


def displacement(first: AtomicData, second: AtomicData) -> float:
    """Root mean square distance in Å between two frames with the same atoms, nearest images."""
    steps = first.pos.numpy().astype(float) - second.pos.numpy().astype(float)
    steps = minimum_image(steps, first.cell[0].numpy().astype(float), first.pbc[0].numpy())
    return float(np.sqrt((steps**2).sum(1).mean()))
