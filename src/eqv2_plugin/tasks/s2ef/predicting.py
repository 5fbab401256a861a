"""The predictions of one part, of which some structures may have none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import DTypeLike
from tqdm import tqdm

from eqv2_plugin.inference.parts import Part, Predicted
from eqv2_plugin.inference.resilient import SafePredictor
from eqv2_plugin.tasks.s2ef.metrics import PredictedItem, added, batch_metrics
from eqv2_plugin.tasks.s2ef.reading import Item
from eqv2_plugin.tasks.submission.layout import beyond, unwritable

LABELS = ("energy", "forces")


def predict_part(
    predict: SafePredictor,
    part: Part,
    batches: Iterator[Sequence[Item]],
    dtype: DTypeLike,
    labelled: bool,
    on_batch: Callable[[int], object],
) -> Predicted:
    """Take batches until the part is complete; put it into the order of its data.

    A structure that the model refuses, or whose numbers are not finite in the type of the file,
    fails alone.

    Args:
        batches: of this part, and of those after it.
        dtype: of the file.
        labelled: whether there are metrics.
        on_batch: called with the number of structures in each batch.

    Raises:
        ValueError: a structure without labels where there are metrics.
        MemoryError: the device has too little memory for a single structure.
    """
    good: list[PredictedItem] = []
    failed: dict[int, tuple[str, str]] = {}
    sums = []
    while len(good) + len(failed) < len(part):
        batch = next(batches)
        found, refused = predict_items(predict, batch, dtype)
        if labelled:
            _refuse_unlabelled(part.split, found)
            sums.append(batch_metrics(found))
        good += found
        failed |= refused
        on_batch(len(batch))
        for name, reason in refused.values():
            tqdm.write(f"{name} failed: {reason}")
    good.sort(key=lambda one: one.item.index)
    return Predicted(
        ids=np.array([one.item.id for one in good]),
        energy=np.array([one.energy for one in good]),
        forces=np.concatenate([one.forces for one in good]) if good else np.zeros((0, 3)),
        free=np.array([len(one.forces) for one in good], np.int64),
        metrics=added(sums),
        failed=[failed[index] for index in sorted(failed)],
    )


def predict_items(
    predict: SafePredictor, items: Sequence[Item], dtype: DTypeLike
) -> tuple[list[PredictedItem], dict[int, tuple[str, str]]]:
    """Predict a batch; returns what is good, and {index in the split: (id, reason)} of the rest."""
    good, failed = [], {}
    for item, one in zip(items, predict([item.atoms for item in items]), strict=True):
        if isinstance(one, str):
            failed[item.index] = (item.id, one)
        elif unwritable([one.energy], [one.forces[item.free]], dtype)[0]:
            failed[item.index] = (item.id, f"its prediction is {beyond(dtype)}")
        else:
            good.append(PredictedItem(item, one.energy, one.forces[item.free]))
    return good, failed


def _refuse_unlabelled(split: str, found: Sequence[PredictedItem]) -> None:
    for one in found:
        if one.item.labels != LABELS:
            missing = " and no ".join(name for name in LABELS if name not in one.item.labels)
            raise ValueError(
                f"{split}: {one.item.id} has no {missing}, but the first structure of the split "
                "has labels. Metrics need the labels of all: complete the data, or remove them"
            )
