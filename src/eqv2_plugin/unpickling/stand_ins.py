"""What takes the place of classes that a pickle names: objects that hold data and do nothing."""

from __future__ import annotations

import pickle
from typing import Any, ClassVar


class PickledObject:
    """Stands for an object of another class: what was stored of it, in ``state``.

    Attributes:
        kind: name of the class that it stands for.
    """

    kind: ClassVar[str] = "object"
    state: dict[str, Any]

    def __new__(cls, *_arguments: Any) -> PickledObject:
        # Arguments belong to the constructor of the class that it stands for.
        made = super().__new__(cls)
        made.state = {}
        return made

    def __init__(self, *_arguments: Any) -> None:
        """Nothing: see ``__new__``."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("an object whose state is no dictionary")
        self.state = state


def stand_in(kind: str) -> type[PickledObject]:
    """A class whose objects stand for those of the class ``kind``."""
    return type(f"Pickled{kind}", (PickledObject,), {"kind": kind})


def nothing(*_arguments: Any) -> None:
    """Stands for a function whose result nobody needs."""


def encode(text: str, encoding: str) -> bytes:
    """Stands for ``_codecs.encode``, which makes bytes in pickles of protocol 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes as text in {encoding!r}")
    return text.encode("latin1")


def reconstructor(kind: Any, *_base_and_state: Any) -> PickledObject:
    """Stands for ``copyreg._reconstructor``, which makes objects in pickles of protocol 2."""
    if not (isinstance(kind, type) and issubclass(kind, PickledObject)):
        raise pickle.UnpicklingError(f"an object of {kind!r}")
    return kind()
