"""The restricted unpickler: which names a pickle may have (of checkpoints, LMDB records, AdsorbML's
input), and what is made in their place: objects that hold data and do nothing."""

from __future__ import annotations

import collections
import io
import pickle
import typing
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from eqv2_plugin.unpickling.arrays import (
    NumpyArray,
    NumpyDtype,
    numpy_frombuffer,
    numpy_reconstruct,
    numpy_scalar,
    read_storage,
    rebuild_tensor,
)


class PickledObject:
    """Stands for an object of the class ``kind``: what was stored of it, in ``state``."""

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


# Validation metrics of old checkpoints are numpy scalars, pickled by numpy 1 or 2.
_NUMPY_CLASSES: list[Any] = [
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
    np.dtypes.BoolDType,
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),
]


def checkpoint_classes() -> list[Any]:
    """Classes of checkpoints of fairchem-core 1 and 2, beside tensors: one dataclass, plain
    containers, and OmegaConf's configs, whose objects name the containers, too."""
    from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint
    from omegaconf import DictConfig, ListConfig, base, nodes

    config = [DictConfig, ListConfig, base.ContainerMetadata, base.Metadata]
    scalars = [nodes.AnyNode, nodes.StringNode, nodes.IntegerNode, nodes.FloatNode]
    plain: list[Any] = [typing.Any, int, float, str, bool, dict, list, tuple]
    plain += [collections.OrderedDict, collections.defaultdict, *_NUMPY_CLASSES]
    return [MLIPInferenceCheckpoint, *config, *scalars, nodes.BooleanNode, *plain]


_NUMPY: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): NumpyDtype,
    ("numpy", "ndarray"): NumpyArray,
}
for _module in ("numpy.core.", "numpy._core."):  # numpy 1 and 2
    _NUMPY[_module + "multiarray", "scalar"] = numpy_scalar
    _NUMPY[_module + "multiarray", "_reconstruct"] = numpy_reconstruct
    _NUMPY[_module + "numeric", "_frombuffer"] = numpy_frombuffer

_PYG = "torch_geometric.data."
RECORDS: dict[tuple[str, str], Any] = {
    **_NUMPY,
    (_PYG + "data", "Data"): PickledObject,
    (_PYG + "storage", "GlobalStorage"): PickledObject,
    # PyG 2 keeps these two classes, not instances, beside the data.
    (_PYG + "data", "DataEdgeAttr"): PickledObject,
    (_PYG + "data", "DataTensorAttr"): PickledObject,
    ("torch._utils", "_rebuild_tensor_v2"): rebuild_tensor,
    ("torch.storage", "_load_from_bytes"): read_storage,
    ("collections", "OrderedDict"): dict,  # a tensor's hooks, always empty
}

# Of AdsorbML's input. Constraints lay in one module in older releases of ASE.
_CONSTRAINTS = {
    "FixAtoms": "fix_atoms",
    "FixCartesian": "fix_cartesian",
    "FixScaled": "fix_scaled",
    "FixedPlane": "fixed_plane",
    "FixedLine": "fixed_line",
}
SLABS: dict[tuple[str, str], Any] = {
    **_NUMPY,
    ("ase.atoms", "Atoms"): stand_in("Atoms"),
    ("ase.cell", "Cell"): stand_in("Cell"),
    ("ase.calculators.singlepoint", "SinglePointCalculator"): stand_in("Calculator"),
    ("ase.calculators.calculator", "Parameters"): dict,
    ("fairchem.data.oc.core.slab", "Slab"): stand_in("Slab"),
    ("fairchem.data.oc.core.bulk", "Bulk"): stand_in("Bulk"),
    ("fairchem.data.oc.core.adsorbate", "Adsorbate"): stand_in("Adsorbate"),
    # A calculator's method; our code makes its own.
    ("builtins", "getattr"): nothing,
    ("__builtin__", "getattr"): nothing,
    ("copyreg", "_reconstructor"): reconstructor,
    ("copy_reg", "_reconstructor"): reconstructor,
    ("builtins", "object"): PickledObject,
    ("__builtin__", "object"): PickledObject,
    ("_codecs", "encode"): encode,
    ("collections", "OrderedDict"): dict,
}
for _name, _file in _CONSTRAINTS.items():
    SLABS["ase.constraints", _name] = SLABS[f"ase.constraints.{_file}", _name] = stand_in(_name)
# A slab may keep the structure that pymatgen cut it from; nobody needs it.
for _file, _names in {
    "core.structure": ("Structure", "IStructure", "Molecule"),
    "core.surface": ("Slab",),
    "core.lattice": ("Lattice",),
    "core.sites": ("Site", "PeriodicSite"),
    "core.composition": ("Composition",),
    "core.periodic_table": ("Element", "Species", "DummySpecies"),
}.items():
    for _name in _names:
        SLABS[f"pymatgen.{_file}", _name] = stand_in(f"pymatgen{_name}")


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
