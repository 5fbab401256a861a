"""Which names a pickle may have: of checkpoints, of LMDB records, of AdsorbML's input."""

from __future__ import annotations

import collections
import typing
from typing import Any

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
from eqv2_plugin.unpickling.stand_ins import (
    PickledObject,
    encode,
    nothing,
    reconstructor,
    stand_in,
)

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
V1_CLASSES: list[Any] = [
    *_NUMPY_CLASSES,
    collections.OrderedDict,
    collections.defaultdict,
    dict,
    list,
]


def inference_classes() -> list[Any]:
    """Classes of fairchem 2's inference checkpoints: one dataclass, and OmegaConf's configs."""
    # OmegaConf's objects of a training run name the containers, too.
    from fairchem.core.units.mlip_unit.api.inference import MLIPInferenceCheckpoint
    from omegaconf import DictConfig, ListConfig, base, nodes

    config = [DictConfig, ListConfig, base.ContainerMetadata, base.Metadata]
    scalars = [nodes.AnyNode, nodes.StringNode, nodes.IntegerNode, nodes.FloatNode]
    plain = [typing.Any, int, float, str, bool, dict, list, tuple]
    ordered = [collections.OrderedDict, collections.defaultdict]
    return [MLIPInferenceCheckpoint, *config, *scalars, nodes.BooleanNode, *plain, *ordered]


def checkpoint_classes() -> list[Any]:
    """Classes of checkpoints of fairchem-core 1 and 2, beside tensors and plain containers."""
    return [*V1_CLASSES, *inference_classes()]


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
    # A calculator's method, which is made anew.
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
