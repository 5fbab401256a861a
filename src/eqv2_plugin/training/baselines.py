"""Baselines that a force model must beat: zero forces, and the nearest training frame."""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset


def _frames(dataset: Dataset) -> list[dict[str, np.ndarray]]:
    """Arrays of all frames of a data set."""
    frames = []
    for index in range(len(dataset)):
        frame = dataset[index]
        frames.append(
            {
                "numbers": frame.atomic_numbers.numpy(),
                "pos": frame.pos.numpy().astype(float),
                "cell": frame.cell[0].numpy().astype(float),
                "pbc": frame.pbc[0].numpy(),
                "forces": frame.forces.numpy(),
                "energy": float(frame.energy),
                "free": frame.fixed.numpy() == 0,
                "split": frame.dataset_name.split(".", 1)[1],
            }
        )
    return frames


def displacement(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> float:
    """Root mean square distance in Å between two frames with the same atoms, nearest images."""
    cell = np.where(first["pbc"][:, None], first["cell"], np.eye(3))
    fractional = (first["pos"] - second["pos"]) @ np.linalg.inv(cell)
    fractional -= np.round(fractional) * first["pbc"]
    return float(np.sqrt(((fractional @ cell) ** 2).sum(1).mean()))


def baselines(train: Dataset, validation: Dataset) -> dict[str, dict[str, float | None]]:
    """Force and energy MAE of the baselines per split of ``validation``.

    Returns:
        {split: {"zero_forces_mae_meV_per_A", "nearest_frame_forces_mae_meV_per_A",
        "nearest_frame_energy_mae_meV"}}; the nearest frame is None for a split whose
        systems do not occur in ``train``.
    """
    by_system: dict[tuple, list[dict[str, np.ndarray]]] = {}
    for frame in _frames(train):
        by_system.setdefault(tuple(frame["numbers"]), []).append(frame)
    sums: dict[str, list[list[np.ndarray]]] = {}
    for frame in _frames(validation):
        zero, near_forces, near_energy = sums.setdefault(frame["split"], [[], [], []])
        free = frame["free"]
        zero.append(np.abs(frame["forces"][free]).ravel())
        known = by_system.get(tuple(frame["numbers"]), [])
        same_cell = [k for k in known if np.allclose(k["cell"], frame["cell"], atol=1e-3)]
        if same_cell:
            nearest = min(same_cell, key=lambda other: displacement(frame, other))
            near_forces.append(np.abs(frame["forces"] - nearest["forces"])[free].ravel())
            near_energy.append(np.array([abs(frame["energy"] - nearest["energy"])]))

    def mean(values: list[np.ndarray]) -> float | None:
        return float(1e3 * np.concatenate(values).mean()) if values else None

    return {
        split: {
            "zero_forces_mae_meV_per_A": mean(zero),
            "nearest_frame_forces_mae_meV_per_A": mean(near_forces),
            "nearest_frame_energy_mae_meV": mean(near_energy),
        }
        for split, (zero, near_forces, near_energy) in sums.items()
    }
