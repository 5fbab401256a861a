"""``energy_lin_ref``: references per element that v1 kept among the model's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

KEY = "energy_lin_ref"


@dataclass(frozen=True)
class LinearReference:
    """References in units of the energy's normaliser (None: there are none), whether they are
    to be added to the energy, and a note for the user."""

    values: torch.Tensor | None
    added: bool
    note: str | None = None


def take_linear_reference(
    state: Mapping[str, torch.Tensor],
    backbone: Mapping[str, Any],
    single_class: bool,
    wanted: str | None,
) -> tuple[dict[str, torch.Tensor], LinearReference]:
    """Split the references from the weights, and decide whether they are added.

    The single class of v1 added them where ``use_energy_lin_ref`` was set; its hydra model
    held them and never added them.

    Args:
        state: v1's names without prefix.
        backbone: v1's options.
        single_class: see `V1Model`.
        wanted: --energy-reference.

    Returns:
        The other weights, and the references.

    Raises:
        ValueError: config and checkpoint disagree, or only the user can tell.
    """
    rest = {key: value for key, value in state.items() if key.rsplit(".", 1)[-1] != KEY}
    found = [value for key, value in state.items() if key not in rest]
    used = bool(backbone.get("use_energy_lin_ref"))
    if not found:
        if used or backbone.get("load_energy_lin_ref"):
            raise ValueError(
                "energy reference in conflict: the config says that the model holds linear "
                f"references (use_energy_lin_ref or load_energy_lin_ref), but there is no {KEY!r} "
                "among the weights"
            )
        return rest, LinearReference(None, False)
    if not backbone.get("load_energy_lin_ref") and not used:
        raise ValueError(
            f"energy reference in conflict: the weights hold {KEY!r}, but the config does not "
            "mention it (load_energy_lin_ref, use_energy_lin_ref)"
        )
    if wanted in ("total", "total_linear"):
        return rest, LinearReference(found[0], True)
    if wanted == "linear_residual":
        return rest, LinearReference(found[0], False)
    if used and not single_class:
        raise ValueError(
            f"the config asks to add {KEY!r}, which fairchem-core 1's hydra model never did: pass "
            "--energy-reference total_linear for energies with it, linear_residual for its numbers"
        )
    if used:
        return rest, LinearReference(found[0], True)
    note = f"{KEY} is left out, as in fairchem-core 1 with use_energy_lin_ref=false"
    return rest, LinearReference(found[0], False, note)
