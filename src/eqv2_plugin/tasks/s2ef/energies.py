"""Which energy is predicted, and whether the labels are of the same kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ase import Atoms
from torch import nn

from eqv2_plugin.data.structures import Structures
from eqv2_plugin.inference.energy_agreement import (
    compare,
    data_kind,
    kinds_note,
    magnitudes_note,
    spread_out,
)
from eqv2_plugin.inference.predictor import Predict
from eqv2_plugin.models.energy_kind import energy_kind_of
from eqv2_plugin.models.metadata import metadata_of
from eqv2_plugin.tasks.s2ef.reading import read_item


def energy_report(
    model: nn.Module,
    data: Mapping[str, Any],
    structures: Mapping[str, Structures],
    predict: Predict,
) -> dict[str, Any]:
    """What ``metrics.json`` says of energies, found before the long run.

    Args:
        model: with its metadata.
        data: config of the data, which may state ``energy_kind``.
        structures: {split: its structures}.
        predict: the model.

    Returns:
        ``kind`` and ``data_kind`` (names of `EnergyKind`), and ``notes``: sentences on data with
        another kind of energy, and on splits whose labels are too far from the predictions.

    Raises:
        ValueError: the config states no kind that there is, or a structure cannot be read.
    """
    kind, stated = energy_kind_of(metadata_of(model)), data_kind(data)
    notes = [kinds_note(kind, stated, "the data")]
    notes += [magnitudes_note(compare(predict, _few(s)), split) for split, s in structures.items()]
    return {
        "kind": kind.value,
        "data_kind": stated.value,
        "notes": [note for note in notes if note],
    }


def _few(structures: Structures) -> Iterator[tuple[Atoms, float | None]]:
    """Some structures with their labels; none where the first one has no energy."""
    for index in spread_out(len(structures)):
        item = read_item(structures, index)
        if item.energy is None:
            return
        yield item.atoms, item.energy
