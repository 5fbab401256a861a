"""Unpickling that admits what records of OC20 and OC22 need, and nothing else.

A pickle names the functions it wants called. Here every admitted name leads to code of our own
that holds data and runs nothing; any other name is refused before it is even imported.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

from eqv2_plugin.data.lmdb.pickled_arrays import (
    NumpyArray,
    NumpyDtype,
    numpy_frombuffer,
    numpy_reconstruct,
    numpy_scalar,
    read_storage,
    rebuild_tensor,
)


class PickledObject:
    """Stands for an object of PyTorch Geometric: what was stored of it, in ``state``."""

    state: dict[str, Any]

    def __setstate__(self, state: dict[str, Any]) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("an object whose state is no dictionary")
        self.state = state


_PYG = "torch_geometric.data."
_ADMITTED: dict[tuple[str, str], Any] = {
    (_PYG + "data", "Data"): PickledObject,
    (_PYG + "storage", "GlobalStorage"): PickledObject,
    # PyG 2 keeps these two classes, not instances, beside the data.
    (_PYG + "data", "DataEdgeAttr"): PickledObject,
    (_PYG + "data", "DataTensorAttr"): PickledObject,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch.storage", "_load_from_bytes"): read_storage,
    ("collections", "OrderedDict"): dict,  # a tensor's hooks, always empty
    ("numpy", "dtype"): NumpyDtype,
    ("numpy", "ndarray"): NumpyArray,
}
for _numpy in ("numpy.core.", "numpy._core."):  # numpy 1 and 2
    _ADMITTED[_numpy + "multiarray", "scalar"] = numpy_scalar
    _ADMITTED[_numpy + "multiarray", "_reconstruct"] = numpy_reconstruct
    _ADMITTED[_numpy + "numeric", "_frombuffer"] = numpy_frombuffer


class _RestrictedUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        admitted = _ADMITTED.get((module, name))
        if admitted is None:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which no record of OC20 or OC22 needs and which "
                "could run code; it is refused"
            )
        return admitted


def restricted_loads(pickled: bytes) -> Any:
    """Unpickle numbers, strings, containers, tensors and PyG's ``Data``; run nothing.

    Returns:
        The object: tensors and numpy arrays as numpy arrays (or ``NumpyArray`` around
        one), numpy scalars as Python numbers, ``Data`` as ``PickledObject``.

    Raises:
        ValueError: a damaged pickle, or one that names anything else.
    """
    try:
        return _RestrictedUnpickler(io.BytesIO(pickled)).load()
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(f"not a pickle that can be read safely: {error}") from error
