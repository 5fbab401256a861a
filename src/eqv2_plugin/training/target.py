"""What a run on one's own data takes for a property that is no energy (``target_key``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eqv2_plugin.common.options import did_you_mean
from eqv2_plugin.data.labels import SCALAR
from eqv2_plugin.data.own.scales import FIT, NONE
from eqv2_plugin.heads.scalar import REDUCTIONS
from eqv2_plugin.training.start import FROM_CHECKPOINT


def own_source(target_key: str | None, target_kind: str, checkpoint: str | None) -> str:
    """The default of ``references``: where those of the labels come from.

    Raises:
        ValueError: no such kind of property.
    """
    if target_kind not in REDUCTIONS:
        raise ValueError(
            f"target_kind={target_kind}: a property is {' or '.join(REDUCTIONS)}"
            f"{did_you_mean(str(target_kind), REDUCTIONS)}"
        )
    if target_key is not None:
        return FIT if target_kind == "extensive" else NONE
    return FIT if checkpoint is None else FROM_CHECKPOINT


def own_wanted(
    labels: str | None, target_key: str | None, target_kind: str, references: str, training: str
) -> str | None:
    """Which labels the data must hold: the option ``labels``, or the property's one number.

    Raises:
        ValueError: options that exclude each other.
    """
    if target_key is None:
        if labels == SCALAR:
            raise ValueError("labels=scalar: say which number is meant, target_key=NAME")
        return labels
    if labels is not None:
        raise ValueError(f"target_key={target_key} is trained alone: leave out labels={labels}")
    if training != "plain":
        raise ValueError(f"training={training} needs forces, target_key has none: training=plain")
    if references == FROM_CHECKPOINT:
        raise ValueError(
            "references=checkpoint are those of energies: for target_key give references=fit or "
            "none"
        )
    if target_kind == "intensive" and references != NONE:
        raise ValueError(
            "references are sums over atoms, which an intensive property is not: leave them out, "
            "or give target_kind=extensive"
        )
    return "energy"


def scalar_scale(key: str, fitted: Mapping[str, Any]) -> float:
    """Mean or rmsd of a property's normaliser, of the numbers that `prepare` returns."""
    if key == "mean":
        return 0.0 if fitted["references"] else float(fitted.get("energy_mean", 0.0))
    return float(fitted["energy_rmsd"]) or 1.0
