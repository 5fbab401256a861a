"""One model call for many structures, of which some may be beyond the model or the memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ase import Atoms

from eqv2_plugin.inference.predictor import Predict, Prediction

# What models and fairchem raise for a structure that they cannot predict (an unknown element,
# coinciding atoms, a singular cell); other errors are no fault of a structure.
STRUCTURE_FAULTS = (ValueError, ArithmeticError, AssertionError, torch.linalg.LinAlgError)


class SafePredictor:
    """Predicts batches; a structure that the model refuses does not stop the others.

    A batch that the model refuses is halved until the structures at fault are found. Where memory
    runs out it is halved, too, and later batches hold no more structures than what fitted. Other
    errors than these go through.

    Args:
        predict: the model.
    """

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self._largest: int | None = None

    def __call__(self, structures: Sequence[Atoms]) -> list[Prediction | str]:
        """Predictions; in place of one that the model refused, its reason.

        Raises:
            MemoryError: the memory is too small for a single structure.
            RuntimeError: the model returned another number of predictions.
        """
        found: list[Prediction | str] = []
        while rest := structures[len(found) :]:
            found += self._halving(rest[: self._largest])
        return found

    def _halving(self, structures: Sequence[Atoms]) -> list[Prediction | str]:
        single = len(structures) == 1
        try:
            found: list[Prediction | str] = [*self._predict(structures)]
        except STRUCTURE_FAULTS as error:
            if single:
                return [str(error) or type(error).__name__]
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if single:
                raise MemoryError(
                    f"too little memory for a structure of {len(structures[0])} atoms ({error})"
                ) from error
            self._largest = len(structures) // 2
        else:
            if len(found) != len(structures):
                raise RuntimeError(
                    f"the model returned {len(found)} predictions for {len(structures)} structures"
                )
            return found
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        middle = len(structures) // 2
        return self._halving(structures[:middle]) + self._halving(structures[middle:])


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: on a CPU torch has no class of its own for it."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        "can't allocate memory" in str(error) or "not enough memory" in str(error)
    )
