"""Files of element references: published ones by name, fitted ones by path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase.data import atomic_numbers, chemical_symbols
from fairchem.core.modules.normalization.element_references import ElementReferences

from eqv2_plugin.common.files import read_npz, save_npz

if TYPE_CHECKING:
    from fairchem.core.datasets.atomic_data import AtomicData

PUBLISHED = {
    "oc20_linear": "oc20_linref.npz",
    "oc22_linear": "oc22_linfit_coeffs.npz",
    "mptrj": "mptrj_element_references.npz",
    "omat24": "omat24_element_references.npz",
}
# eV per atom. Fitted references of real elements lie between 0.03 and 21 eV in size; what a
# solver leaves for elements without data lies outside of these bounds (see README.md).
_MIN, _MAX = 1e-2, 1e2


def element_references(name: str | Path) -> ElementReferences:
    """References by name or from a file, as the module that fairchem's tasks take.

    Args:
        name: of published references (a key of ``PUBLISHED``), or an ``.npz`` file with
            the array ``coeff`` (eV per atom, index = atomic number), for example one
            written by ``eqv2 data fit-references``.

    Returns:
        Module with float32 ``element_references``, NaN for elements that the fit had no data of.

    Raises:
        ValueError: neither a known name nor a file, or a file of another content.
    """
    return ElementReferences(torch.from_numpy(load_coefficients(name).astype(np.float32)))


def written_out_references(values: Mapping[str, float]) -> ElementReferences:
    """References, {element symbol: eV per atom}, whose values stand in the config itself.

    fairchem keeps the config of the tasks in every checkpoint, and makes the references
    again when it is loaded: values travel with it, the path of a file would not.

    Raises:
        ValueError: a name that no element has, or a value that is not a finite number.
    """
    return ElementReferences(torch.from_numpy(_by_number(values).astype(np.float32)))


def _by_number(values: Mapping[str, float]) -> np.ndarray:
    coefficients = np.full(len(chemical_symbols), np.nan)
    for symbol, value in values.items():
        if symbol not in chemical_symbols[1:]:
            raise ValueError(f"element references for {symbol!r}, which is no element")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not np.isfinite(value):
            raise ValueError(f"the element reference of {symbol} must be in eV, got {value!r}")
        coefficients[atomic_numbers[symbol]] = value
    if not values:
        raise ValueError("no element references given")
    return coefficients


class ExactReferences(ElementReferences):
    """References of energies that float32 would round: taken off and added in float64.

    Total energies of all-electron codes, thousands of eV, lose tenths of a meV in float32; what
    is left of them without their references does not.
    """

    def apply_refs(self, batch: AtomicData, tensor: torch.Tensor) -> torch.Tensor:
        """Energies [B] (eV) without references, in the dtype of the positions."""
        return super().apply_refs(batch, tensor.double()).to(batch.pos.dtype)


def exact_references(values: Mapping[str, float]) -> ExactReferences:
    """As `written_out_references`, in float64, for energies in float64.

    Raises:
        ValueError: as there.
    """
    return ExactReferences(torch.from_numpy(_by_number(values)))


def exact_references_config(values: Mapping[str, float] | None) -> dict[str, Any] | None:
    """Config that makes `exact_references`; None without references."""
    if values is None:
        return None
    return {
        "_target_": "eqv2_plugin.data.references.exact_references",
        "values": dict(values),
    }


def references_config(values: Mapping[str, float] | None) -> dict[str, Any] | None:
    """Config that makes `written_out_references`; None without references."""
    if values is None:
        return None
    return {
        "_target_": "eqv2_plugin.data.references.written_out_references",
        "values": dict(values),
    }


def by_symbol(coefficients: np.ndarray) -> dict[str, float]:
    """{element symbol: eV per atom} of the elements that a vector has a number for."""
    known = np.flatnonzero(~np.isnan(coefficients))
    return {chemical_symbols[z]: float(coefficients[z]) for z in known if z > 0}


def load_coefficients(name: str | Path) -> np.ndarray:
    """As `element_references`, but the float64 array itself."""
    if str(name) in PUBLISHED:
        path = Path(__file__).parent / PUBLISHED[str(name)]
    else:
        path = Path(name).expanduser()
        if not path.is_file():
            raise ValueError(
                f"unknown element references {str(name)!r}: it is no file, and the known names "
                f"are {', '.join(PUBLISHED)}"
            )
    try:
        arrays = read_npz(path)
    except ValueError as error:
        raise ValueError(
            f"{path} is no readable .npz file of element references: {error}"
        ) from error
    if "coeff" not in arrays:
        raise ValueError(
            f"{path} has no array 'coeff' (it has {', '.join(arrays) or 'nothing'}): element "
            "references are one energy in eV per atomic number under that key"
        )
    coefficients = arrays["coeff"]
    if coefficients.ndim != 1 or len(coefficients) < 2 or coefficients.dtype.kind not in "iuf":
        raise ValueError(
            f"{path}: 'coeff' must be a list of numbers, index = atomic number, but has shape "
            f"{coefficients.shape} and type {coefficients.dtype}"
        )
    coefficients = coefficients.astype(np.float64)
    # Our own files say what their data held; in others only the numbers can tell.
    if "atoms" not in arrays:
        size = np.abs(coefficients)
        coefficients[~((size >= _MIN) & (size <= _MAX))] = np.nan
    coefficients[0] = np.nan  # there is no element 0
    if np.isnan(coefficients).all():
        raise ValueError(f"{path}: 'coeff' holds no plausible energy of any element")
    return coefficients


def save_coefficients(
    path: Path, coefficients: np.ndarray, frames: np.ndarray, atoms: np.ndarray, label: str
) -> None:
    """Write a fit of the property ``label`` in the form that `element_references` reads.

    Args:
        coefficients: [elements] eV, NaN where there was no data.
        frames, atoms: [elements] how many frames and atoms held the element.
    """
    arrays = {"coeff": coefficients, "frames": frames, "atoms": atoms, "property": np.array(label)}
    save_npz(path, arrays, compressed=False)


def reference_energy(coefficients: np.ndarray, numbers: np.ndarray, where: str) -> float:
    """Sum of the references of a structure's atoms, eV; a ValueError for elements without one."""
    known = numbers < len(coefficients)
    values = coefficients[np.where(known, numbers, 0)]  # entry 0 is NaN
    if np.isnan(values).any():
        lacking = sorted({chemical_symbols[z] for z in numbers[np.isnan(values)]})
        raise ValueError(
            f"the element references have no value for {', '.join(lacking)}, which {where} holds: "
            "fit references to data with these elements (eqv2 data fit-references)"
        )
    return float(values.sum())
