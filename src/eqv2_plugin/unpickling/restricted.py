"""The restricted unpickler of records and of AdsorbML's input."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from typing import Any

from eqv2_plugin.unpickling.whitelists import RECORDS


class _RestrictedUnpickler(pickle.Unpickler):
    def __init__(self, pickled: bytes, admitted: Mapping[tuple[str, str], Any], what: str) -> None:
        super().__init__(io.BytesIO(pickled))
        self.admitted, self.what = admitted, what

    def find_class(self, module: str, name: str) -> Any:
        admitted = self.admitted.get((module, name))
        if admitted is None:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which no {self.what} needs and which could run "
                "code; it is refused"
            )
        return admitted


def restricted_loads(
    pickled: bytes,
    admitted: Mapping[tuple[str, str], Any] = RECORDS,
    what: str = "record of OC20 or OC22",
) -> Any:
    """Unpickle numbers, strings, containers, and what the whitelist admits; run nothing.

    Args:
        pickled: the pickle.
        admitted: {(module, name): what is made in its place}.
        what: names the kind of file in errors.

    Returns:
        Tensors and numpy arrays as numpy arrays (or ``NumpyArray`` around one), numpy scalars as
        Python numbers, other objects as ``PickledObject``.

    Raises:
        ValueError: a damaged pickle, or one that names anything else.
    """
    try:
        return _RestrictedUnpickler(pickled, admitted, what).load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f"not a pickle that can be read safely: {error}") from error
