"""Element references and normalisers, checked, as fairchem's own classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from fairchem.core.modules.normalization.element_references import ElementReferences
from fairchem.core.modules.normalization.normalizer import Normalizer

# eV per atom; fitted references of real elements lie within some 20 eV.
_IMPLAUSIBLE = 1e3
_FILES = {"oc22_linear": "oc22_linfit_coeffs.npz"}


def element_references(name: str) -> ElementReferences:
    """Published references by name.

    A least-squares fit says nothing of elements that its data lacks (some coefficients of
    the published file are 1e10 eV): these become NaN, so that no plausible energy results.

    Args:
        name: "oc22_linear", the linear fit of OC22 total energies (eV per atom).

    Raises:
        ValueError: unknown name.
    """
    if name not in _FILES:
        raise ValueError(f"unknown element references {name!r}; known: {', '.join(_FILES)}")
    with np.load(Path(__file__).parent / _FILES[name], allow_pickle=False) as file:
        coefficients = file["coeff"].astype(np.float32)
    coefficients[np.abs(coefficients) > _IMPLAUSIBLE] = np.nan
    return ElementReferences(torch.from_numpy(coefficients))


def normalizer(mean: float, rmsd: float) -> Normalizer:
    """fairchem's normaliser of a target: ``(target - mean) / rmsd``.

    Args:
        mean: in the target's unit (eV, eV/Å, eV/Å^3).
        rmsd: in the same unit, positive.

    Raises:
        ValueError: not two numbers, or ``rmsd`` not positive.
    """
    for label, value in (("mean", mean), ("rmsd", rmsd)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(
                f"a normaliser's {label} must be one number in the target's unit, got {value!r}"
            )
    if not rmsd > 0:
        raise ValueError(f"a normaliser's rmsd must be positive, got {rmsd}")
    return Normalizer(mean=float(mean), rmsd=float(rmsd))
