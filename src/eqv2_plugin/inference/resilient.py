"""One model call for many structures, of which some may be beyond the model or the memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
import torch
from ase import Atoms

_Prediction = TypeVar("_Prediction")

# What models and fairchem raise for a structure that they cannot predict (an unknown element,
# coinciding atoms, a singular cell); other errors are no fault of a structure.
STRUCTURE_FAULTS = (ValueError, ArithmeticError, AssertionError, torch.linalg.LinAlgError)


class SafePredictor(Generic[_Prediction]):
    """Predicts batches; a structure that the model refuses does not stop the others.

    A batch that the model refuses is halved until the structures at fault are found. Where memory
    runs out it is halved, too, and later batches hold no more atoms than half of what did not fit.
    Other errors than these go through.
    """

    def __init__(self, predict: Callable[[Sequence[Atoms]], Sequence[_Prediction]]) -> None:
        self._predict = predict
        self._max_atoms = math.inf

    def __call__(self, structures: Sequence[Atoms]) -> list[_Prediction | str]:
        """Predictions; in place of one that the model refused, its reason.

        Raises:
            MemoryError: the memory is too small for a single structure.
        """
        found: list[_Prediction | str] = []
        while rest := structures[len(found) :]:
            atoms = np.cumsum([len(structure) for structure in rest])
            some = rest[: max(1, int((atoms <= self._max_atoms).sum()))]
            try:
                found += self._each(some)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(some) == 1:
                    raise MemoryError(
                        f"too little memory for a structure of {len(some[0])} atoms ({error})"
                    ) from error
                self._max_atoms = atoms[len(some) - 1] / 2
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
        return found

    def _each(self, structures: Sequence[Atoms]) -> list[_Prediction | str]:
        """Where the model refuses a batch, its halves, until the structures at fault are found."""
        try:
            found = self._predict(structures)
        except STRUCTURE_FAULTS as error:
            if len(structures) == 1:
                return [str(error) or type(error).__name__]
            middle = len(structures) // 2
            return self._each(structures[:middle]) + self._each(structures[middle:])
        if len(found) != len(structures):
            raise RuntimeError(
                f"the model returned {len(found)} predictions for {len(structures)} structures"
            )
        return [*found]


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out: on a CPU torch has no class of its own for it."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        "can't allocate memory" in str(error) or "not enough memory" in str(error)
    )
