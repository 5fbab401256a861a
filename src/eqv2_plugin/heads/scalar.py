"""Scalar head: one number per structure that is no energy."""

from __future__ import annotations

from typing import Literal

from fairchem.core.common.registry import registry

from eqv2_plugin.backbones.protocol import Backbone
from eqv2_plugin.heads.energy import EnergyHead

OUTPUT = "scalar"  # `data.labels.SCALAR`
# Kind of a property -> how the contributions of atoms are joined.
REDUCTIONS: dict[str, Literal["sum", "mean"]] = {"intensive": "mean", "extensive": "sum"}


@registry.register_model("equiformer_v2_property_head")
class ScalarHead(EnergyHead):
    """A property of a structure, on any `Backbone`: the mean or the sum of the atoms' numbers.

    Args:
        kind: "intensive" (a band gap: two copies have that of one), or "extensive" (two copies
            have twice that of one), which also is what a few atoms of many decide.

    Returns from ``forward``: {"scalar": [B]} in the units of the normalised target.
    """

    def __init__(self, backbone: Backbone, kind: str = "intensive") -> None:
        if kind not in REDUCTIONS:
            raise ValueError(f"target_kind must be {' or '.join(REDUCTIONS)}, not {kind!r}")
        super().__init__(backbone, output_name=OUTPUT, reduce=REDUCTIONS[kind])
