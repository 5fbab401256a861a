"""S2EF metrics by fairchem's evaluator, as sums that can be added over parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

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


def batch_metrics(items: Sequence[Item], energy: np.ndarray, forces: Sequence[np.ndarray]) -> Sums:
    """Sums of fairchem's S2EF metrics over the structures of a batch, on free atoms.

    Structures without any free atom are left out.

    Args:
        items: n labelled structures.
        energy: [n] predictions, eV.
        forces: n predictions [free atoms, 3], eV/Å.
    """
    kept = [i for i, item in enumerate(items) if item.free.any()]
    if not kept:
        return {}
    natoms = torch.tensor([int(items[i].free.sum()) for i in kept])
    target = {
        "energy": torch.tensor([items[i].energy for i in kept], dtype=torch.float64),
        "forces": _rows(np.asarray(items[i].forces)[items[i].free] for i in kept),
        "natoms": natoms,
    }
    prediction = {
        "energy": torch.as_tensor(np.asarray(energy, np.float64)[kept]),
        "forces": _rows(forces[i] for i in kept),
        "natoms": natoms,
    }
    found = Evaluator("s2ef").eval(prediction, target)
    return {name: (float(m["total"]), float(m["numel"])) for name, m in found.items()}


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


def table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """One line per split.

    Args:
        metrics: {split: what `readable` returned}.
    """
    head = ("split", "energy MAE meV", "force MAE meV/Å", "force cosine", "EFwT %")
    keys = ("energy_mae_meV", "forces_mae_meV_per_A", "forces_cosine", "EFwT_percent")
    rows = [(split, *(f"{found[key]:.4g}" for key in keys)) for split, found in metrics.items()]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, *rows]
    )


def _rows(vectors: Iterable[np.ndarray]) -> torch.Tensor:
    return torch.as_tensor(np.concatenate([np.asarray(v, np.float64) for v in vectors]))
