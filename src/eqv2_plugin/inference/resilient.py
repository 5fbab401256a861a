"""One model call for many structures, of which some may be beyond the model or the memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase import Atoms

from eqv2_plugin.inference.predictor import Predict, Prediction

# What models and fairchem raise for a structure that they cannot predict (an unknown element,
# coinciding atoms, a singular cell); other errors are no fault of a structure.
STRUCTURE_FAULTS = (ValueError, ArithmeticError, AssertionError, torch.linalg.LinAlgError)


def predict_each(predict: Predict, structures: Sequence[Atoms]) -> list[Prediction | str]:
    """Predict a batch; where the model refuses it, find the structures at fault by halves.

    Returns:
        Predictions; in place of one that the model refused alone, its reason.

    Raises:
        RuntimeError: the model returned another number of predictions, or whatever else is no
            fault of a structure (see `STRUCTURE_FAULTS`).
    """
    try:
        found: list[Prediction | str] = [*predict(structures)]
    except STRUCTURE_FAULTS as error:
        if len(structures) == 1:
            return [str(error) or type(error).__name__]
    else:
        if len(found) != len(structures):
            raise RuntimeError(
                f"the model returned {len(found)} predictions for {len(structures)} structures"
            )
        return found
    middle = len(structures) // 2
    return predict_each(predict, structures[:middle]) + predict_each(predict, structures[middle:])


class SafePredictor:
    """Predicts batches; a structure that the model refuses does not stop the others.

    Errors other than `STRUCTURE_FAULTS` go through. Where memory runs out the batch is halved, and
    later batches are no larger than what fitted.

    Args:
        predict: the model.
    """

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self._most: int | None = None

    def __call__(self, structures: Sequence[Atoms]) -> list[Prediction | str]:
        """Predictions; in place of one that the model refused, its reason.

        Raises:
            torch.OutOfMemoryError, MemoryError, RuntimeError: no memory for a single structure.
            RuntimeError: the model returned another number of predictions.
        """
        size = len(structures) if self._most is None else min(self._most, len(structures))
        found: list[Prediction | str] = []
        while len(found) < len(structures):
            # Memory may have run out meanwhile.
            size = size if self._most is None else min(size, self._most)
            found += self._chunk(structures[len(found) : len(found) + size])
        return found

    def _chunk(self, structures: Sequence[Atoms]) -> list[Prediction | str]:
        try:
            return predict_each(self._predict, structures)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if len(structures) == 1 or not is_out_of_memory(error):
                raise
            self._most = len(structures) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        middle = len(structures) // 2
        return self._chunk(structures[:middle]) + self._chunk(structures[middle:])


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: on a CPU torch has no class of its own for it."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        "can't allocate memory" in str(error) or "not enough memory" in str(error)
    )
