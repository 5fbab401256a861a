"""Tensors and numpy values of a pickle, rebuilt as numpy arrays by code of our own.

torch's and numpy's own functions for this are not safe on a pickle from elsewhere:
``torch.storage._load_from_bytes`` is ``torch.load`` of any pickle. What is rebuilt here holds
numbers only, and no element lies outside the bytes that were stored.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np

# The storage classes of torch by name; bfloat16 and complex numbers do not occur.
_STORAGES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
# torch.save's format before its zip files, which tensors inside a pickle still have.
# It begins with a magic number and a version.
_HEAD = b"".join(pickle.dumps(number, 2) for number in (0x1950A86A20F9469CFC6C, 1001))
_DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")


class _StorageUnpickler(pickle.Unpickler):
    """Reads the headers of a stored torch storage; knows the names of storages only."""

    def find_class(self, module: str, name: str) -> str:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"{module}.{name} in a tensor's storage is refused")

    def persistent_load(self, pid: Any) -> tuple[str, str, int]:
        kind, dtype, key, _device, count, *view = pid
        if kind != "storage" or any(part is not None for part in view):
            raise pickle.UnpicklingError(f"a tensor's storage of kind {pid!r} is not known")
        return dtype, key, count


def read_storage(stored: bytes) -> np.ndarray:
    """The numbers of a torch storage as ``torch.storage._load_from_bytes`` gets it; read-only."""
    if not stored.startswith(_HEAD):
        raise pickle.UnpicklingError("a tensor's storage is not in torch's format")
    file = io.BytesIO(stored)
    file.seek(len(_HEAD))
    parts = _StorageUnpickler(file)
    if parts.load().get("little_endian") is not True:
        raise pickle.UnpicklingError("a tensor was written on a big-endian machine")
    dtype, key, count = parts.load()
    if parts.load() != [key]:
        raise pickle.UnpicklingError("a tensor's storage does not hold exactly one array")
    size = int.from_bytes(file.read(8), "little")
    start = file.tell()
    if size != count or len(stored) - start != count * np.dtype(dtype).itemsize:
        raise pickle.UnpicklingError(
            f"a tensor's storage has {len(stored) - start} bytes for {count} numbers ({dtype})"
        )
    return np.frombuffer(stored, dtype, count, start)


def rebuild_tensor(
    storage: np.ndarray,
    offset: int,
    shape: Sequence[int],
    strides: Sequence[int],
    *_gradient_and_hooks: Any,
) -> np.ndarray:
    """The array that ``torch._utils._rebuild_tensor_v2`` makes a tensor of."""
    if type(storage) is not np.ndarray or storage.ndim != 1 or len(shape) != len(strides):
        raise pickle.UnpicklingError("a tensor without a storage")
    if not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)):
        raise pickle.UnpicklingError(f"a tensor of shape {shape} and strides {strides}")
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if count and last >= len(storage):
        raise pickle.UnpicklingError(f"a tensor of {count} numbers in a storage of {len(storage)}")
    if count > len(storage):
        # With strides of zero, a kilobyte would become a gigabyte.
        raise pickle.UnpicklingError(
            f"a tensor of {count:,} numbers, of which {len(storage):,} are stored"
        )
    if count == 0:
        return np.zeros(shape, storage.dtype)
    itemsize = storage.itemsize
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape, [step * itemsize for step in strides], writeable=False
    )


class NumpyDtype:
    """Stands for ``numpy.dtype``: plain numbers only."""

    def __init__(self, code: str, *_align_and_copy: bool) -> None:
        if code not in _DTYPES:
            raise pickle.UnpicklingError(f"numpy values of type {code!r} are refused")
        self.code, self.order = code, "<"

    def __setstate__(self, state: Sequence[Any]) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"numpy values of byte order {state[1]!r}")
        self.order = state[1]

    def array(self, content: bytes, shape: Sequence[int], order: str = "C") -> np.ndarray:
        """Raises ValueError where the bytes do not fill the shape exactly."""
        flat = np.frombuffer(content, np.dtype(self.order + self.code))
        return flat.reshape(shape, order="F" if order == "F" else "C")


class NumpyArray:
    """Stands for ``numpy.ndarray``; the array is in ``value`` once its state is set."""

    value: np.ndarray

    def __setstate__(self, state: Sequence[Any]) -> None:
        _version, shape, dtype, fortran, content = state
        self.value = dtype.array(content, shape, "F" if fortran else "C")


def numpy_reconstruct(*_class_shape_and_code: Any) -> NumpyArray:
    """Stands for numpy's ``_reconstruct``: an array whose state comes later."""
    return NumpyArray()


def numpy_frombuffer(
    content: bytes, dtype: NumpyDtype, shape: Sequence[int], order: str
) -> np.ndarray:
    """Stands for numpy's ``_frombuffer``."""
    return dtype.array(content, shape, order)


def numpy_scalar(dtype: NumpyDtype, content: bytes) -> bool | int | float:
    """Stands for numpy's ``scalar``: the number as Python has it, float64 exactly."""
    return dtype.array(content, ()).item()
