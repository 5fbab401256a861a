"""S2EF metrics by fairchem's evaluator, as sums that can be added over parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from fairchem.core.modules.evaluator import Evaluator

from eqv2_plugin.tasks.s2ef.reading import Item

Sums = dict[str, tuple[float, float]]

# fairchem's name -> (ours, factor to its unit).
_NAMES = {
    "energy_mae": ("energy_mae_meV", 1e3),
    "forces_mae": ("forces_mae_meV_per_A", 1e3),
    "forces_cosine_similarity": ("forces_cosine", 1.0),
    "forces_magnitude_error": ("forces_magnitude_error_meV_per_A", 1e3),
    # Energy within 0.02 eV and all force components within 0.03 eV/Å.
    "energy_forces_within_threshold": ("EFwT_percent", 1e2),
}


@dataclass(frozen=True)
class PredictedItem:
    """One structure."""

    item: Item  # as it was read
    energy: float  # eV, in the model's precision
    forces: np.ndarray  # [free atoms, 3] eV/Å


def batch_metrics(found: Sequence[PredictedItem]) -> Sums:
    """Sums of fairchem's S2EF metrics over labelled structures with free atoms, on these."""
    kept = [one for one in found if one.item.free.any()]
    if not kept:
        return {}
    natoms = torch.tensor([len(one.forces) for one in kept])
    target = {
        "energy": torch.tensor([one.item.energy for one in kept], dtype=torch.float64),
        "forces": _rows(np.asarray(one.item.forces)[one.item.free] for one in kept),
        "natoms": natoms,
    }
    prediction = {
        "energy": torch.tensor([one.energy for one in kept], dtype=torch.float64),
        "forces": _rows(one.forces for one in kept),
        "natoms": natoms,
    }
    found_by_name = Evaluator("s2ef").eval(prediction, target)
    return {name: (float(m["total"]), float(m["numel"])) for name, m in found_by_name.items()}


def added(sums: Iterable[Mapping[str, tuple[float, float]]]) -> Sums:
    """The sums over all that is given."""
    total: Sums = {}
    for one in sums:
        for name, (value, count) in one.items():
            before = total.get(name, (0.0, 0.0))
            total[name] = (before[0] + value, before[1] + count)
    return total


def readable(sums: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Means in meV, meV/Å and percent."""
    return {
        ours: factor * sums[name][0] / sums[name][1]
        for name, (ours, factor) in _NAMES.items()
        if name in sums
    }


def _rows(vectors: Iterable[np.ndarray]) -> torch.Tensor:
    return torch.as_tensor(np.concatenate([np.asarray(v, np.float64) for v in vectors]))
