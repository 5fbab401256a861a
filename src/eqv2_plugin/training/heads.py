"""Heads for the labels that there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eqv2_plugin.data.labels import LABELS, SCALAR, label_set

CONSERVATIVE = "eqv2_plugin.heads.conservative.ConservativeHead"
DIRECT = {
    "energy": "eqv2_plugin.heads.energy.EnergyHead",
    "forces": "eqv2_plugin.heads.forces.ForceHead",
    "stress": "eqv2_plugin.heads.stress.StressHead",
}


def heads_for(
    labels: str, heads: Mapping[str, Any], backbone: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Heads and backbone options that predict some labels, and no others.

    With direct forces each label has a head; otherwise one head has the energy and its gradients,
    with forces whether they are labelled or not.

    Args:
        labels: a key of ``LABEL_SETS``.
        heads: {name: {"module": ...}}: heads that are kept, of what is no label (noise) besides.
        backbone: options, with ``direct_forces``.
    """
    wanted = label_set(labels)
    if SCALAR in wanted:
        return {SCALAR: heads[SCALAR]}, dict(backbone)
    heads = {name: head for name, head in heads.items() if name != SCALAR}
    if not backbone["direct_forces"]:
        kept = dict(heads)
        if not any(head.get("module") == CONSERVATIVE for head in kept.values()):
            kept = {"gradient": {"module": CONSERVATIVE}, **kept}
        # Left out where it is the default, as runs have been written.
        return kept, {**backbone, **({"regress_stress": True} if "stress" in wanted else {})}
    found = {name: heads.get(name, {"module": DIRECT[name]}) for name in wanted}
    return {**found, **{n: head for n, head in heads.items() if n not in LABELS}}, dict(backbone)
