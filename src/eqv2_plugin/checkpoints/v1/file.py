"""A v1 checkpoint taken apart: layout, model, normalisers, weights and what its energies are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eqv2_plugin.checkpoints.families import refuse_other_family
from eqv2_plugin.checkpoints.record import NativeHeader, NativeModel
from eqv2_plugin.checkpoints.v1.config import (
    backbone_options,
    normalise_model,
    stated_normalizers,
)
from eqv2_plugin.checkpoints.v1.energy_reference import energy_reference, find_data_set
from eqv2_plugin.checkpoints.v1.heads import (
    read_element_references,
    read_normalizers,
    translate_heads,
)
from eqv2_plugin.checkpoints.v1.names import from_single_class, rename_v1_state
from eqv2_plugin.checkpoints.v1.weights import (
    Layout,
    Weights,
    choose_weights,
    recognise,
    take_linear_reference,
)
from eqv2_plugin.checkpoints.whitelist import MODELS
from eqv2_plugin.models.known_elements import references_or_nan
from eqv2_plugin.models.metadata import EnergyKind, ModelMetadata

_BACKBONE = "eqv2_plugin.backbones.equiformer_v2.backbone.EquiformerV2Backbone"


@dataclass(frozen=True)
class V1File:
    """All that conversion needs."""

    content: NativeModel  # of the new file, weights under our names
    metadata: ModelMetadata  # as in the configuration
    layout: Layout
    weights: Weights  # which were chosen, and why (their ``state`` has v1's names)
    notes: list[str]  # what the user should know besides


def take_apart(
    checkpoint: Any,
    source: Path,
    weights: str | None = None,
    config: Mapping[str, Any] | None = None,
    wanted_reference: str | None = None,
) -> V1File:
    """Every step from a loaded v1 file to our names and options; nothing is built or run.

    Args:
        source: its path, for names in errors.
        weights: "ema", "raw" (the non-EMA weights), or None for what fairchem-core 1's calculator
            used.
        config: a v1 config that replaces the one in the file.
        wanted_reference: the name of an `EnergyKind`.

    Raises:
        ValueError: whatever is wrong with the file, in one sentence.
    """
    layout = recognise(checkpoint, str(source))
    own = checkpoint.get("config")
    used = config if config is not None else (own if isinstance(own, Mapping) else {})
    if not used:
        refuse_other_family(None, checkpoint["state_dict"])
        raise ValueError("the checkpoint holds no config; give the model's with --config FILE.yml")
    model = normalise_model(used)
    refuse_other_family(model.family_name, ())
    normalizers = read_normalizers(checkpoint.get("normalizers"))
    _compare_normalizers(normalizers, stated_normalizers(used))
    chosen = choose_weights(checkpoint, layout, weights, model.single_class)
    # The references are no trained weight, and v1 knows them in the backbone only.
    plain, linear, added = take_linear_reference(
        chosen.state, model.backbone, model.single_class, wanted_reference
    )
    state = rename_v1_state(from_single_class(plain) if model.single_class else plain)
    references = read_element_references(checkpoint.get("elementrefs"))
    structure = EnergyKind.TOTAL_LINEAR if "energy" in references else None
    notes = []
    if linear is not None:
        if structure is not None:
            raise ValueError(
                "energy reference in conflict: the checkpoint holds both 'elementrefs' and "
                "'energy_lin_ref'"
            )
        structure = EnergyKind.TOTAL_LINEAR if added else EnergyKind.LINEAR_RESIDUAL
        if added:
            _, rmsd = normalizers.get("energy", (0.0, 1.0))
            references["energy"] = references_or_nan(linear.double() * rmsd)
        elif wanted_reference is None:
            notes.append(
                "energy_lin_ref is left out, as in fairchem-core 1 with use_energy_lin_ref=false"
            )
    if not model.backbone.get("use_pbc", True):
        notes.append("use_pbc=false: v1 ignored periodicity; here it is the structure's own pbc")
    energy = normalizers.get("energy")
    found = find_data_set(used, energy, source.name, wanted_reference)
    settled = energy_reference(found, structure, wanted_reference)
    metadata = dataclasses.replace(settled, weights=chosen.kind)
    dataset = found[0].task if found[0] else "eqv2"
    heads, tasks = translate_heads(model.heads, normalizers, references, dataset)
    header = NativeHeader(
        {
            "_target_": MODELS[0],
            "backbone": {"model": _BACKBONE, **backbone_options(model.backbone)},
            "heads": heads,
            "supports_single_atoms": True,
            "facts": metadata.to_dict(),
        },
        tasks,
    )
    by_task = {task.name: references[task.property] for task in tasks if task.has_references}
    return V1File(NativeModel(header, state, by_task), metadata, layout, chosen, notes)


def _compare_normalizers(
    stored: Mapping[str, tuple[float, float]], stated: Mapping[str, tuple[float, float]]
) -> None:
    """The checkpoint's numbers count; a config that states others belongs to another model."""
    for target, numbers in stated.items():
        kept = stored.get(target)
        same = kept is not None and all(
            abs(a - b) <= 1e-5 * max(abs(a), abs(b), 1e-6)
            for a, b in zip(kept, numbers, strict=True)
        )
        if not same:
            raise ValueError(
                f"config and checkpoint are in conflict: the config normalises {target} with mean "
                f"and scale {numbers}, the checkpoint with {kept}"
            )
