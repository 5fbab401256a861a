"""Element references and normalisers, checked, as fairchem's own classes."""

from __future__ import annotations

from fairchem.core.modules.normalization.normalizer import Normalizer

from eqv2_plugin.data.references.coefficients import (
    PUBLISHED,
    element_references,
    exact_references,
    written_out_references,
)

__all__ = [
    "PUBLISHED", "element_references", "exact_references", "normalizer", "written_out_references",
]  # fmt: skip


def normalizer(mean: float, rmsd: float) -> Normalizer:
    """fairchem's normaliser of a target: ``(target - mean) / rmsd``, in the target's unit.

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
