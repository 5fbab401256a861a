"""What takes the place of classes that a pickle names: objects that hold data and do nothing."""

from __future__ import annotations

import pickle
from typing import Any


class PickledObject:
    """Stands for an object of another class: what was stored of it, in ``state``."""

    state: dict[str, Any]

    def __new__(cls, *_arguments: Any) -> PickledObject:
        made = super().__new__(cls)
        made.state = {}
        return made

    def __init__(self, *_arguments: Any) -> None:
        """Arguments belong to the constructor of the class that it stands for."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("an object whose state is no dictionary")
        self.state = state


def nothing(*_arguments: Any) -> None:
    """Stands for a function whose result nobody needs."""
