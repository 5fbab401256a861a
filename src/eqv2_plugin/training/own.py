"""What a run on one's own data takes from its data, or from the checkpoint that it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eqv2_plugin.common.text import warn_once
from eqv2_plugin.data.labels import SCALAR, label_set
from eqv2_plugin.data.own.scales import FIT
from eqv2_plugin.data.references.coefficients import exact_references_config
from eqv2_plugin.data.structures import open_structures
from eqv2_plugin.training.refit import FRAMES, refitted_references
from eqv2_plugin.training.start import (
    FROM_CHECKPOINT,
    REFIT,
    read_start,
    start_normalizer,
    start_references,
)


def own_scale(
    label: str,
    key: str,
    source: str | None,
    checkpoint: str | None,
    unsafe: bool,
    direct_forces: bool,
    fitted: Mapping[str, Any],
) -> float:
    """As `start_normalizer`, of a run on one's own data, of which ``fitted`` are the numbers.

    Args:
        source: "fit" besides; None is "checkpoint" where there is one, else "fit".
        direct_forces: otherwise forces and stress are gradients, on the scale of the energy.
        fitted: what `eqv2_plugin.data.own.prepare.prepare` returns.
    """
    if source is None:
        source = FIT if checkpoint is None else FROM_CHECKPOINT
    if not direct_forces and label != "energy":
        if key == "mean":
            return 0.0
        label = "energy"
    if source == FROM_CHECKPOINT:
        if checkpoint is None:
            raise ValueError("normalizer=checkpoint needs a checkpoint: give checkpoint=FILE")
        if label != "stress" or read_start(checkpoint, unsafe).task(label) is not None:
            return start_normalizer(source, checkpoint, label, key, unsafe)
    elif source != FIT:
        return start_normalizer(source, str(checkpoint), label, key, unsafe)
    if key == "mean":
        return 0.0
    names = {"energy": "energy_rmsd", "forces": "force_rms", "stress": "stress_rms"}
    forces = fitted["force_rms"]
    # A gradient's energy has the scale of the forces.
    gradients = label == "energy" and not direct_forces and forces is not None
    value = forces if gradients else fitted[names[label]]
    return 1.0 if value is None else float(value)  # nothing of a label that is not trained


def own_references(
    source: str,
    checkpoint: str | None,
    unsafe: bool,
    fitted: Mapping[str, float] | None,
    root: str | None = None,
    folder: str | None = None,
) -> dict[str, Any] | None:
    """Config of the energy's element references of a run on one's own data.

    Args:
        source: "checkpoint", "refit" (`refitted_references`, where there is a checkpoint), or what
            ``fitted`` ({symbol: eV per atom} or None) came from.
        root: folder of the prepared data.
        folder: of the run.
    """
    if source == REFIT and checkpoint is not None and fitted is not None and root is not None:
        return exact_references_config(_refitted(checkpoint, unsafe, fitted, root, folder))
    if source != FROM_CHECKPOINT:
        return exact_references_config(fitted)
    if checkpoint is None:
        raise ValueError("references=checkpoint needs a checkpoint: give checkpoint=FILE")
    return start_references(source, checkpoint, unsafe)


def _refitted(
    checkpoint: str, unsafe: bool, fitted: Mapping[str, float], root: str, folder: str | None
) -> dict[str, float]:
    structures = open_structures({"format": "ase_db", "src": str(Path(root) / "train")})
    places = np.unique(np.linspace(0, len(structures) - 1, FRAMES).astype(int))
    some = (structures[int(place)] for place in places)
    return refitted_references(checkpoint, unsafe, some, fitted, folder)


def start_direct_forces(
    checkpoint: str | None, unsafe: bool = False, target_key: str | None = None
) -> bool:
    """Whether forces come from a head of their own; a new model's are gradients, if it has any."""
    if checkpoint is None:
        return target_key is not None
    return bool(read_start(checkpoint, unsafe).model["backbone"].get("direct_forces", True))


def own_labels(
    given: str | None,
    stored: str,
    training: str,
    direct_forces: bool,
    checkpoint: str | None,
    unsafe: bool = False,
) -> str:
    """Which labels are trained (a key of ``LABEL_SETS``), of those that the data hold.

    Args:
        given: the option ``labels``; None: what can be.
        training: "dens" needs forces, and trains no stress.

    Raises:
        ValueError: DeNS without forces, or with stress.
    """
    if training == "dens":
        if "forces" not in stored:
            raise ValueError("training=dens encodes forces, and there are none: training=plain")
        if given is not None and "stress" in given:
            raise ValueError(f"training=dens trains no stress: labels=energy_forces, not {given}")
        return "energy_forces"
    head = checkpoint is None or not direct_forces or _has_task(checkpoint, "stress", unsafe)
    if given is None and "stress" in stored and not head:
        warn_once(
            f"Not trained: stress, which {Path(str(checkpoint)).name} does not predict; "
            "labels=energy_forces_stress new_heads=[stress] starts a head for it."
        )
        return "energy_forces"
    return stored


def label_mapping(labels: str) -> dict[str, str]:
    """fairchem's ``key_mapping`` of some labels, which are stored under their own names."""
    if labels == SCALAR:
        return {"energy": SCALAR}  # where `prepare` has put it
    return {name: name for name in label_set(labels)}


def _has_task(checkpoint: str, label: str, unsafe: bool) -> bool:
    return read_start(checkpoint, unsafe).task(label) is not None
