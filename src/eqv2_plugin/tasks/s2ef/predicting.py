"""One model call for a batch of structures that are read, of which some may have no prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import DTypeLike

from eqv2_plugin.inference.predictor import Predict
from eqv2_plugin.inference.resilient import predict_each
from eqv2_plugin.tasks.s2ef.reading import Item
from eqv2_plugin.tasks.submission.layout import beyond, unwritable


@dataclass(frozen=True)
class BatchOutcome:
    """Of a batch.

    Attributes:
        items: n structures that were predicted.
        energy: [n] eV, in the model's precision.
        forces: n arrays [free atoms, 3] eV/Å.
        failed: {index of the others in their split: (id, reason)}.
    """

    items: list[Item]
    energy: np.ndarray
    forces: list[np.ndarray]
    failed: dict[int, tuple[str, str]]


def predict_items(predict: Predict, items: Sequence[Item], dtype: DTypeLike) -> BatchOutcome:
    """Predict a batch.

    A structure that the model refuses, or whose numbers are not finite in the type of the file,
    fails alone.

    Args:
        predict: the model.
        items: the batch.
        dtype: of the file.

    Raises:
        MemoryError: the device has too little memory for the batch.
    """
    try:
        found = predict_each(predict, [item.atoms for item in items])
    except torch.cuda.OutOfMemoryError as error:
        atoms = sum(len(item.atoms) for item in items)
        raise MemoryError(
            f"the device has too little memory for a batch of {atoms} atoms: lower atoms_per_batch "
            "and run the same command again; finished parts are kept"
        ) from error
    outcome = BatchOutcome([], np.zeros(0), [], {})
    energies = []
    for item, one in zip(items, found, strict=True):
        if isinstance(one, str):
            outcome.failed[item.index] = (item.id, one)
            continue
        forces = one.forces[item.free]
        if unwritable([one.energy], [forces], dtype)[0]:
            reason = f"its prediction is {beyond(dtype)}"
            outcome.failed[item.index] = (item.id, reason)
            continue
        outcome.items.append(item)
        outcome.forces.append(forces)
        energies.append(one.energy)
    return BatchOutcome(outcome.items, np.array(energies), outcome.forces, outcome.failed)
