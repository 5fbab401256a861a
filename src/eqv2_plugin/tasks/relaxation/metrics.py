"""Scores of relaxations where DFT's results are known, computed by fairchem's evaluator.

OC20's measures: energy MAE and EwT (share within 0.02 eV) of IS2RE, ADwT of IS2RS (the share of
structures whose mean atom displacement is below a threshold, averaged over thresholds from 0.01
to 0.5 Å). As in fairchem-core 1, ADwT counts free atoms only, with minimum-image displacements.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from ase import Atoms
from fairchem.core.modules.evaluator import (
    average_distance_within_threshold,
    energy_within_threshold,
    mae,
    min_diff,
)

from eqv2_plugin.data.fixed_atoms import fixed_mask


def is2re_metrics(energies: Sequence[float], targets: Sequence[float]) -> dict[str, float]:
    """Errors of energies (eV) of relaxed structures against DFT's; without structures nothing."""
    if len(targets) == 0:
        return {}
    prediction = {"energy": torch.tensor(energies, dtype=torch.float64)}
    target = {"energy": torch.tensor(targets, dtype=torch.float64)}
    return {
        "energy_mae_eV": float(mae(prediction, target, "energy")["metric"]),
        "EwT_percent": 1e2 * float(energy_within_threshold(prediction, target)["metric"]),
        "structures": len(targets),
    }


def is2rs_metrics(pairs: Iterable[tuple[Atoms, np.ndarray]]) -> dict[str, float]:
    """Distances between relaxed structures and DFT's positions [atoms, 3] Å; of none nothing.

    Raises:
        ValueError: a structure that is not periodic, or positions of another shape.
    """
    below, thresholds, distances = 0.0, 0.0, []
    for atoms, positions in pairs:
        free = _counted(atoms, positions)
        target = {
            "positions": torch.tensor(positions[free]),
            "natoms": torch.tensor([int(free.sum())]),
            "cell": torch.tensor(np.array(atoms.cell)).unsqueeze(0),
            "pbc": torch.tensor(atoms.pbc),
        }
        prediction = {**target, "positions": torch.tensor(atoms.positions[free])}
        found = average_distance_within_threshold(prediction, target)
        below += float(found["total"])
        thresholds += float(found["numel"])
        distances.append(mean_distance(atoms, positions))
    if not distances:
        return {}
    return {
        "ADwT_percent": 1e2 * (below / thresholds),
        "mean_distance_A": float(np.mean(distances)),
        "structures": len(distances),
    }


def mean_distance(atoms: Atoms, positions: np.ndarray) -> float:
    """Mean over free atoms of the minimum-image distance, Å."""
    free = _counted(atoms, positions)
    cell, pbc = np.array(atoms.cell), atoms.pbc.tolist()
    apart = min_diff(atoms.positions[free], positions[free], cell, pbc)
    return float(np.linalg.norm(apart, axis=1).mean())


def free_atoms(atoms: Atoms) -> np.ndarray:
    """[atoms] True for those that are not fixed."""
    return ~fixed_mask(atoms)


def _counted(atoms: Atoms, positions: np.ndarray) -> np.ndarray:
    if not atoms.pbc.all():
        raise ValueError("ADwT is for structures that are periodic in all directions")
    if np.shape(positions) != (len(atoms), 3):
        raise ValueError(
            f"the relaxed structure has {len(atoms)} atoms, the target positions have the shape "
            f"{np.shape(positions)}"
        )
    free = free_atoms(atoms)
    # Where all are fixed, none has moved: a distance of zero.
    return free if free.any() else np.ones(len(atoms), bool)
