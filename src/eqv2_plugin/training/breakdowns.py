"""Where the errors of forces are: by element, and by how large the force is."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.data import chemical_symbols

from eqv2_plugin.training.evaluation import SplitPredictions

# Lower ends of the ranges of target forces, eV/Å.
EDGES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)


def force_errors(split: SplitPredictions) -> dict[str, list[dict[str, Any]]]:
    """Rows ``by_element`` (most atoms first) and ``by_magnitude`` of the target, of free atoms.

    Each row has ``atoms``, MAE and RMSE of components (meV/Å), and the mean norm of the target
    (``mean_force_meV_per_A``). Empty without forces.
    """
    if not split.forces:
        return {}
    pairs, numbers = np.concatenate(split.forces).astype(float), np.concatenate(split.numbers)
    norms = np.linalg.norm(pairs[:, 0], axis=1)
    kinds, counts = np.unique(numbers, return_counts=True)
    elements = kinds[np.argsort(-counts, kind="stable")]
    ranges = np.digitize(norms, EDGES) - 1
    return {
        "by_element": [
            {"element": chemical_symbols[z], **_row(pairs[numbers == z], norms[numbers == z])}
            for z in elements
        ],
        "by_magnitude": [
            {"force_eV_per_A": magnitude(i), **_row(pairs[ranges == i], norms[ranges == i])}
            for i in range(len(EDGES))
            if (ranges == i).any()
        ],
    }


def magnitude(index: int) -> str:
    """The range of forces in words: "0.1 to 0.3"."""
    if index == len(EDGES) - 1:
        return f"above {EDGES[-1]:g}"
    return f"{EDGES[index]:g} to {EDGES[index + 1]:g}"


def _row(pairs: np.ndarray, norms: np.ndarray) -> dict[str, float]:
    errors = 1e3 * (pairs[:, 1] - pairs[:, 0])
    return {
        "atoms": len(pairs),
        "mae_meV_per_A": float(np.abs(errors).mean()),
        "rmse_meV_per_A": float(np.sqrt(np.square(errors).mean())),
        "mean_force_meV_per_A": float(1e3 * norms.mean()),
    }
